"""Requests to the grid's API in a user's name, and what it says when it refuses one."""

import json
from typing import TYPE_CHECKING

from pydantic import ValidationError

from htcgrid.errors import AuthenticationFailed
from htcgrid_events import ErrorBody

if TYPE_CHECKING:
    import httpx

    from htcgrid._transport.http import Http
    from htcgrid._transport.tokens import Tokens

REFUSED_FROM = 400
"""Statuses from here on are refusals."""
PRECONDITION_FAILED = 412
"""Something else lies in the place of an upload."""
_UNAUTHORISED = 401
_JSON = "application/json"


class Authorised:
    """Sends requests with the user's token. Raises as `Http.send` and `Tokens` do."""

    def __init__(self, base_url: str, tokens: "Tokens", http: "Http") -> None:
        self._base = base_url.rstrip("/")
        self._tokens = tokens
        self._http = http

    async def sign_in(self) -> None:
        """Have a token, so that a wrong password shows before anything is done."""
        await self._tokens.current()

    async def send(
        self, method: str, path: str, content: bytes | None, *, content_type: str = _JSON, max_bytes: int | None = None
    ) -> "httpx.Response":
        """The answer to a request to a path of the API, whatever its status but 401.

        Raises:
            AuthenticationFailed: the grid does not accept the user's token.
        """
        token = await self._tokens.current()
        response = await self._send(token, method, path, content, content_type, max_bytes)
        if response.status_code == _UNAUTHORISED:  # expired early, or revoked: once more with another token
            token = await self._tokens.instead_of(token)
            response = await self._send(token, method, path, content, content_type, max_bytes)
        if response.status_code == _UNAUTHORISED:
            raise AuthenticationFailed(
                f"the grid does not accept the user's token for {method} {path.partition('?')[0]}: sign in anew"
            )
        return response

    async def _send(
        self, token: str, method: str, path: str, content: bytes | None, content_type: str, max_bytes: int | None
    ) -> "httpx.Response":
        headers = {"authorization": f"Bearer {token}", "content-type": content_type}
        return await self._http.send(method, self._base + path, headers=headers, content=content, max_bytes=max_bytes)


def error_body(response: "httpx.Response") -> ErrorBody:
    """What the grid says of a request that it refused."""
    try:
        return ErrorBody.model_validate_json(response.content)
    except ValidationError:
        return ErrorBody(error=f"Status{response.status_code}", message=_gateway_message(response))


def _gateway_message(response: "httpx.Response") -> str:
    """What API Gateway says when it answers in the grid's place."""
    try:
        said = json.loads(response.content)
    except ValueError:
        said = None
    return str(said["message"]) if isinstance(said, dict) and "message" in said else "no reason was given"
