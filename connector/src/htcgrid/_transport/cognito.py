"""The grid's Amazon Cognito user pool, asked for tokens.

One operation, InitiateAuth, which is an unsigned JSON request. It is made here rather than by boto3, because botocore
writes the bodies of requests and responses, hence passwords and tokens, to its log at level DEBUG; and because
importing it would double the time that a program takes to connect.
"""

import json
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, ValidationError

from htcgrid._transport.http import REPEATED
from htcgrid._transport.tokens import Grant
from htcgrid.errors import AuthenticationFailed, GridError, RequestRejected, UnexpectedAnswer

if TYPE_CHECKING:
    import httpx

    from htcgrid._transport.http import Http
    from htcgrid.profile import Profile

_HEADERS = {
    "content-type": "application/x-amz-json-1.1",
    "x-amz-target": "AWSCognitoIdentityProviderService.InitiateAuth",
}
_OK = 200
_REFUSED = {"NotAuthorizedException", "UserNotFoundException"}
_USER_UNREADY = {"PasswordResetRequiredException", "UserNotConfirmedException"}
_CLIENT_WRONG = {"ResourceNotFoundException", "InvalidParameterException"}
_LATER = {"TooManyRequestsException", "InternalErrorException", "ThrottlingException"}


class _Result(BaseModel):
    id_token: str = Field(alias="IdToken")
    lifetime: float = Field(alias="ExpiresIn", default=3600.0)
    refresh_token: str | None = Field(alias="RefreshToken", default=None)


class _Answer(BaseModel):
    result: _Result | None = Field(alias="AuthenticationResult", default=None)
    challenge: str | None = Field(alias="ChallengeName", default=None)


class Cognito:
    """A `UserPool` at Amazon Cognito."""

    def __init__(self, profile: "Profile", http: "Http") -> None:
        self._url = profile.aws_endpoint_url or _regional_url(profile.region)
        self._client_id = profile.user_pool_client_id
        self._http = http

    async def with_password(self, username: str, password: str) -> Grant:
        """See `UserPool.with_password`."""
        return await self._initiate("USER_PASSWORD_AUTH", {"USERNAME": username, "PASSWORD": password})

    async def with_refresh_token(self, refresh_token: str) -> Grant:
        """See `UserPool.with_refresh_token`."""
        return await self._initiate("REFRESH_TOKEN_AUTH", {"REFRESH_TOKEN": refresh_token})

    async def _initiate(self, flow: str, parameters: dict[str, str]) -> Grant:
        request = {"AuthFlow": flow, "ClientId": self._client_id, "AuthParameters": parameters}
        content = json.dumps(request).encode()
        response = await self._http.send("POST", self._url, headers=_HEADERS, content=content, repeat_if=_not_now)
        if response.status_code != _OK:
            raise self._explained(response)
        try:
            answer = _Answer.model_validate_json(response.content)
        except ValidationError:
            raise UnexpectedAnswer(f"what answers at {self._url} is no Cognito user pool") from None
        if answer.result is None:
            raise AuthenticationFailed(
                f"the user pool asks for more than a password ({answer.challenge}): set a permanent password first"
            )
        return Grant(answer.result.id_token, answer.result.lifetime, answer.result.refresh_token)

    def _explained(self, response: "httpx.Response") -> GridError:
        code = _code(response)
        if code in _REFUSED:
            return AuthenticationFailed("the grid does not know this user, or the password is wrong")
        if code in _USER_UNREADY:
            return AuthenticationFailed(f"the user must first confirm the account or set a new password ({code})")
        if code in _CLIENT_WRONG:
            return AuthenticationFailed(
                f"the user pool at {self._url} has no client {self._client_id!r} that allows sign-in by password "
                f"({code}): is the profile that of another grid?"
            )
        status = response.status_code
        what = f"the user pool at {self._url} refused to sign in with status {status}: {code or 'no reason was given'}"
        return RequestRejected(what, status=status, reason=code)


def _regional_url(region: str) -> str:
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://cognito-idp.{region}.{domain}/"


def _not_now(response: "httpx.Response") -> bool:
    return response.status_code in REPEATED or _code(response) in _LATER  # Cognito throttles with status 400


def _code(response: "httpx.Response") -> str:
    """The error's name, without the namespace that some services put before it."""
    if response.status_code == _OK:
        return ""
    try:
        said = json.loads(response.content)
    except ValueError:
        return ""
    return str(said.get("__type", "")).rpartition("#")[2] if isinstance(said, dict) else ""
