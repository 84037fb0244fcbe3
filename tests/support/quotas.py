"""Quotas of AWS that neither moto nor the embedded AWS enforces, checked on every request that a test makes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3.session

# "Quotas in Amazon DynamoDB": expressions and statements; API Reference: batches.
MAX_EXPRESSION = 4 * 1024
MAX_STATEMENT = 8 * 1024
MAX_STATEMENTS = 25
MAX_KEYS = 100
# "Amazon EventBridge quotas", "Amazon SNS endpoints and quotas", SendMessageBatch in the API Reference of SQS.
MAX_EVENTS_BYTES = 256 * 1024
MAX_NOTIFICATION_BYTES = 256 * 1024
MAX_BATCH = 10

_READS = frozenset({"GetItem", "Query", "BatchGetItem"})


def enforce(session: boto3.session.Session) -> None:
    """Let every client of a session check its requests."""
    checks: Mapping[str, Callable[[str, dict[str, Any]], None]] = {
        "dynamodb": _dynamodb,
        "events": _events,
        "sns": _sns,
        "sqs": _sqs,
    }
    for service, check in checks.items():

        def listen(
            params: dict[str, Any],
            model: Any,
            check: Callable[[str, dict[str, Any]], None] = check,
            **_: object,
        ) -> None:
            check(model.name, params)

        session.events.register(f"before-parameter-build.{service}", listen)


def _dynamodb(operation: str, params: dict[str, Any]) -> None:
    for name, text in _texts(params):
        if name.endswith("Expression"):
            assert len(text.encode()) <= MAX_EXPRESSION, f"{operation}: {name} of {len(text)} bytes"
        if name == "Statement":
            assert len(text.encode()) <= MAX_STATEMENT
    assert len(params.get("Statements", [])) <= MAX_STATEMENTS
    assert operation != "Scan"
    # A global index cannot be read consistently ("Read consistency", DynamoDB Developer Guide).
    if operation in _READS and "IndexName" not in params:
        requests = params.get("RequestItems", {"": params}).values()
        assert all(request.get("ConsistentRead") for request in requests), f"{operation} may read what is out of date"
        assert all(len(request.get("Keys", [])) <= MAX_KEYS for request in requests)


def _events(operation: str, params: dict[str, Any]) -> None:
    if operation == "PutEvents":
        sizes = [len(entry["Detail"].encode()) + len(entry["DetailType"]) + 7 for entry in params["Entries"]]
        assert len(sizes) <= MAX_BATCH
        assert sum(sizes) <= MAX_EVENTS_BYTES, f"{len(sizes)} events of {sum(sizes)} bytes in one request"


def _sns(operation: str, params: dict[str, Any]) -> None:
    if operation == "Publish":
        assert len(params["Message"].encode()) <= MAX_NOTIFICATION_BYTES


def _sqs(operation: str, params: dict[str, Any]) -> None:
    if operation == "SendMessageBatch":
        ids = [entry["Id"] for entry in params["Entries"]]
        assert 1 <= len(ids) <= MAX_BATCH
        assert len(set(ids)) == len(ids), "ids in a batch are distinct"


def _texts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, name)
