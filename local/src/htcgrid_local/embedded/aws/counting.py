"""Counts the requests that reach the embedded AWS, by service and operation: what a grid would be charged for."""

from collections import Counter
from typing import Any

_requests: Counter[str] = Counter()


def count(scope: dict[str, Any]) -> None:
    """Note one HTTP request. Requests that name no operation are counted by the service in their signature."""
    headers = dict(scope["headers"])
    target = headers.get(b"x-amz-target", b"").decode()
    if target:
        service, _, operation = target.partition(".")
        _requests[f"{service.partition('_')[0]} {operation}"] += 1
    elif b"/aws4_request" in headers.get(b"authorization", b""):
        service = headers[b"authorization"].split(b"/aws4_request")[0].rsplit(b"/", 1)[1].decode()
        _requests[f"{service} {scope['method']}"] += 1


def counted() -> dict[str, int]:
    """The requests so far."""
    return dict(_requests)
