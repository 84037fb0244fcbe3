"""What the embedded AWS lets in.

A web page, another user of the machine and a program that found the port reach a socket on the loopback like its owner
does. So a request must name a loopback address as its host, or the bridge on which it was told to listen, must not come
from another origin, and must be signed with a key that the embedded AWS gave out. The exceptions carry credentials of
their own: an API's routes (tokens and tickets), what a user does for himself in the user pool, and answers to stacks.
"""

import ipaddress
import json
import os
import re
import uuid
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from ministack import app as ministack
from ministack.core import iam_evaluator
from ministack.core.iam_evaluator import ResolvedCredential
from ministack.core.router import detect_service
from ministack.services import cognito

from .long_requests import excess
from .signatures import Refused, Request

_APIS = "/_aws/execute-api/"
_OWN = "/_htcgrid/"
_ROUTE = re.compile(r"/_aws/execute-api/[^/]+/[^/]+(?:/(?P<route>.*))?", re.DOTALL)
"""What MiniStack takes for a call of an API. Any other path below `_APIS` it would take for a request to a service."""
_KEYS_OF_POOL = re.compile(r"/([^/]+)/\.well-known/jwks\.json")
_ANSWER = re.compile(r"/_ministack/cfn-response/[0-9a-f-]{36}")
"""Where the provider of a custom resource answers its stack: the random part is known to the one that was asked."""
_COGNITO = "AWSCognitoIdentityProviderService."
_OF_USERS = frozenset(
    {
        "ChangePassword", "GetUser", "GlobalSignOut", "InitiateAuth", "RevokeToken", "SignUp", "UpdateUserAttributes",
    }
)  # fmt: skip
"""Operations of the user pool that no SDK signs: a password or a token is in the request. RespondToAuthChallenge, which
clients of the grid do not need, is not among them: MiniStack does not look at the session in it.
"""
_BRIDGE = os.environ.get("HTCGRID_BRIDGE", "")
"""The one address besides the loopback that it listens on, if any: that of a bridge to containers."""
_LONGEST_OF_STRANGERS = 10 * 1024 * 1024
"""Bytes of a body that comes without a signature: the payload that API Gateway takes ("Amazon API Gateway quotas")."""
_NOT_OF_PAGES = (b"none", b"same-origin")
"""What browsers say of requests that no page of another site made, if they say anything ("Fetch Metadata", W3C)."""

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def guarded(app: App) -> App:
    """`app` behind the gate."""

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _http(app, scope, receive, send)
        elif scope["type"] == "websocket":
            await _websocket(app, scope, receive, send)
        else:
            await app(scope, receive, send)

    return gate


async def _http(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    headers = scope["headers"]
    if reason := _foreign(headers) or _closed(scope):
        await _answer(send, *_message(403, reason))
        return
    if long := _excess(scope):
        await _answer(
            send, long.value, {"content-type": "application/json"}, json.dumps({"message": long.phrase}).encode()
        )
        return
    send = _without_cors(send)
    if _has_other_credentials(scope):
        await _of_stranger(app, scope, receive, send)
        return
    try:
        request = Request.of(scope)
        credential = request.credential()
        body = await _read(receive)
        request.check(credential, body)
        _check_may_ask(scope["path"], credential)
    except Refused as refused:
        await _answer(send, *_refusal(scope, refused))
        return
    await app(scope, _again(body, receive), send)


async def _of_stranger(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Hand on what whoever found the port may send, if it can fill no memory: neither unpacked nor as it is."""
    if not scope["path"].startswith(_APIS) and any(name == b"content-encoding" for name, _ in scope["headers"]):
        await _answer(send, *_message(415, "The embedded AWS unpacks signed requests only."))
        return
    try:
        body = await _read(receive, _LONGEST_OF_STRANGERS)
    except _TooLong:
        await _answer(send, *_message(413, "Request Entity Too Large"))
    except Refused:
        return
    else:
        await app(scope, _again(body, receive), send)


async def _websocket(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    if _foreign(scope["headers"]) or not scope["path"].startswith(_APIS):
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await app(scope, receive, send)


def _foreign(headers: list[tuple[bytes, bytes]]) -> str:
    """Why a request comes from somewhere else; nothing if it does not."""
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    if len(hosts) != 1 or not _is_own(hosts[0]):
        return f"The embedded AWS answers to loopback addresses only, not to {', '.join(hosts) or 'no host'}."
    for name, value in headers:
        foreign = name == b"origin" and value.decode("latin-1") != f"http://{hosts[0]}"
        if foreign or (name == b"sec-fetch-site" and value not in _NOT_OF_PAGES):
            return "The embedded AWS does not answer to pages of other origins."
    return ""


def _is_own(host: str) -> bool:
    name = re.sub(r":\d+$", "", host).removeprefix("[").removesuffix("]")
    if "%" in name:
        # What follows is the zone of an IPv6 address, for Python, and may be any name, such as that of a service.
        return False
    try:
        return ipaddress.ip_address(name).is_loopback or name == _BRIDGE
    except ValueError:
        return name.lower() == "localhost"


def _closed(scope: Scope) -> str:
    """Why nobody is answered, whatever he has; nothing if some are."""
    path = scope["path"]
    if scope["method"] == "OPTIONS":
        return "The embedded AWS allows no cross-origin requests."
    if scope["method"] == "PUT" and _ANSWER.fullmatch(path):
        return ""
    if path in ministack._HEALTH_PATHS or (path.startswith("/_") and not path.startswith((_APIS, _OWN))):
        return "The embedded AWS is administered by the grid alone."
    return ""


def _excess(scope: Scope) -> HTTPStatus | None:
    if not scope["path"].startswith(_APIS):
        return None
    return excess(scope["raw_path"] + b"?" + scope["query_string"], scope["headers"])


def _has_other_credentials(scope: Scope) -> bool:
    """Is there something else in the request than a signature, which the service itself checks?"""
    path = scope["path"]
    if path.startswith(_APIS):
        call = _ROUTE.fullmatch(path)
        return call is not None and not (call["route"] or "").lstrip("/").startswith("@connections")
    if scope["method"] == "PUT" and _ANSWER.fullmatch(path):
        return True
    if scope["method"] == "GET" and (pool := _KEYS_OF_POOL.fullmatch(path)):
        # Public on AWS, too. MiniStack takes what names no pool for an object in a bucket.
        return cognito._get_pool_unscoped(pool[1]) is not None
    if scope["method"] == "POST" and path == "/" and not scope["query_string"]:
        names = [name for name, _ in scope["headers"]]
        targets = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-amz-target"]
        return b"authorization" not in names and targets in [[f"{_COGNITO}{operation}"] for operation in _OF_USERS]
    return False


def _check_may_ask(path: str, credential: ResolvedCredential) -> None:
    if path.startswith(_OWN) and credential.access_key_id != os.environ["AWS_ACCESS_KEY_ID"]:
        raise Refused("AccessDenied", f"Only the grid's own key may ask for {path}.")


def _refusal(scope: Scope, refused: Refused) -> tuple[int, dict[str, str], bytes]:
    """The refusal in the form of the service that was asked."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    service = detect_service(scope["method"], scope["path"], headers, {})
    error = iam_evaluator.AuthError(refused.code, refused.message)
    answer: tuple[int, dict[str, str], bytes] = ministack._credential_failure(
        service, "", str(uuid.uuid4()), error, headers
    )
    return answer


class _TooLong(Exception):
    """Raised when a body is longer than it may be."""


async def _read(receive: Receive, most: int | None = None) -> bytes:
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused("IncompleteBody", "The request ended before its body.")
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if most is not None and length > most:
            raise _TooLong
        if not message.get("more_body"):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that has been read, to be read once more; then what else comes."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> dict[str, Any]:
        return messages.pop() if messages else await receive()

    return again


def _without_cors(send: Send) -> Send:
    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            kept = [header for header in headers if not header[0].lower().startswith(b"access-control-")]
            message = {**message, "headers": kept}
        await send(message)

    return sending


def _message(status: int, text: str) -> tuple[int, dict[str, str], bytes]:
    return status, {"content-type": "application/json"}, json.dumps({"message": text}).encode()


async def _answer(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    listed = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": listed})
    await send({"type": "http.response.body", "body": body})
