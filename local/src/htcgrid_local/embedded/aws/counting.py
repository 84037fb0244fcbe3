"""Counts what reaches the embedded AWS: what a grid would be charged for."""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import dynamodb

_UNIT_BYTES = 1024
"""A write unit is a write of so many bytes, of the item before or after, whichever is larger."""

_requests: Counter[str] = Counter()
_charged: Counter[str] = Counter()


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


def charged() -> dict[str, int]:
    """What is charged for beside requests, so far: write units of tables and calls of functions.

    Deletions, writes to indexes, the double price of transactions and writes whose condition failed are not among them.
    """
    return dict(_charged)


def watch_charges() -> None:
    """Count the writes of items and the calls of functions from now on."""
    dynamodb._set_item = _noting_writes(dynamodb._set_item)
    lambda_runtime.Worker.invoke = _noting_calls(lambda_runtime.Worker.invoke)


def _noting_writes(store: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(store)
    def noting(table: Any, partition: Any, sort: Any, item: Any, *more: Any, **named: Any) -> Any:
        before = table["items"].get(partition, {}).get(sort)
        size = max(dynamodb._item_size_bytes(before), dynamodb._item_size_bytes(item))
        _charged["write units"] += max(1, -(-size // _UNIT_BYTES))
        return store(table, partition, sort, item, *more, **named)

    return noting


def _noting_calls(invoke: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(invoke)
    def noting(worker: Any, *more: Any, **named: Any) -> Any:
        _charged["calls of functions"] += 1
        return invoke(worker, *more, **named)

    return noting
