"""Requests to the APIs that are longer than API Gateway takes, and their refusal.

uvicorn hands a request for a WebSocket on to a parser that gives up without an answer at a line of more than 8 KiB, and
at more than 128 headers: who waits for one would wait for ever.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_WEBSOCKET_ADDRESS = 4_096
"""Most characters ("Quotas for configuring and running a WebSocket API in API Gateway")."""
_REQUEST = 10_240
"""Most bytes of the request line and all headers ("Quotas for configuring and running an HTTP API in API Gateway")."""
_HEADERS = 128

_upgrade: Callable[[HttpToolsProtocol], None] = HttpToolsProtocol.handle_websocket_upgrade


def refuse() -> None:
    """Make uvicorn refuse what is too long to become a WebSocket."""
    HttpToolsProtocol.handle_websocket_upgrade = _upgrade_if_short


def excess(address: bytes, headers: Sequence[tuple[bytes, bytes]], *, most: int = _REQUEST) -> HTTPStatus | None:
    """With which status a request is refused for its length; none if it is not."""
    if len(address) > most:
        return HTTPStatus.REQUEST_URI_TOO_LONG
    size = len(address) + sum(len(name) + len(value) for name, value in headers)
    if size > _REQUEST or len(headers) > _HEADERS:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    return None


def _upgrade_if_short(protocol: HttpToolsProtocol) -> None:
    status = excess(protocol.url, protocol.headers, most=_WEBSOCKET_ADDRESS)
    if status is None:
        _upgrade(protocol)
        return
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    protocol.transport.write(head.encode())
    protocol.transport.close()
