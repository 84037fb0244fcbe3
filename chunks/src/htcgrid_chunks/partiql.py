"""Batches of conditional writes. Each statement has its own condition and its own answer.

"BatchExecuteStatement" (DynamoDB API Reference): up to 25 statements a request; a request that succeeds may hold
statements that failed. `UPDATE … RETURNING ALL NEW *` gives the row as written.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from htcgrid_chunks.attributes import Item
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.errors import ChunkStoreError, StorageUnavailable, WriteRefused

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, BatchStatementRequestTypeDef

MAX_STATEMENTS = 25
_CONDITION_FAILED = frozenset({"ConditionalCheckFailed", "DuplicateItem"})
_BAD_CONTENT = frozenset({"ValidationError", "ItemCollectionSizeLimitExceeded"})
_TRANSIENT = frozenset(
    {
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
        "RequestLimitExceeded",
        "InternalServerError",
        "TransactionConflict",
    }
)
_BACKOFF = Backoff(base=timedelta(milliseconds=50), cap=timedelta(seconds=2))
_MAX_TRIES = 8


@dataclass(frozen=True)
class Statement:
    """One conditional write, with a `?` for each of its parameters."""

    text: str
    parameters: "Sequence[AttributeValueTypeDef]"


@dataclass(frozen=True)
class Written:
    """The answer to a statement. `accepted` is false if its condition failed. `item` is the row as it is now, if the
    statement asked for it or its condition failed on an existing row."""

    accepted: bool
    item: Item | None


class _Failure(NamedTuple):
    code: str
    message: str


class Batches:
    """Executes statements in batches, and retries those that failed transiently. No statement keeps the others from
    being executed."""

    def __init__(self, client: "DynamoDBClient", sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._sleep = sleep

    def execute(self, statements: Sequence[Statement]) -> list[Written]:
        """Execute all statements; the answers are in their order.

        Raises:
            WriteRefused: a statement was refused for what it contains. All others have been executed.
            StorageUnavailable: a statement kept failing for another reason than its condition.
        """
        answers: dict[int, Written] = {}
        failures: dict[int, _Failure] = {}
        pending = list(range(len(statements)))
        for retry in range(1, _MAX_TRIES + 1):
            for start in range(0, len(pending), MAX_STATEMENTS):
                self._execute_some(statements, pending[start : start + MAX_STATEMENTS], answers, failures)
            pending = [index for index in pending if index in failures and failures[index].code in _TRANSIENT]
            if not pending:
                break
            if retry < _MAX_TRIES:
                self._sleep(_BACKOFF.wait(retry, random.random).total_seconds())
        if failures:
            raise _error_of(list(failures.values()))
        return [answers[index] for index in range(len(statements))]

    def _execute_some(
        self,
        statements: Sequence[Statement],
        chosen: Sequence[int],
        answers: dict[int, Written],
        failures: dict[int, _Failure],
    ) -> None:
        """Execute up to 25 statements once: each gets an answer or a failure."""
        requests = [_request(statements[index]) for index in chosen]
        responses = self._client.batch_execute_statement(Statements=requests)["Responses"]
        for index, response in zip(chosen, responses, strict=True):
            error: Mapping[str, Any] | None = response.get("Error")
            failures.pop(index, None)
            if error is None:
                answers[index] = Written(accepted=True, item=_item(response.get("Item")))
            elif error.get("Code") in _CONDITION_FAILED:
                answers[index] = Written(accepted=False, item=_item(error.get("Item")))
            else:
                failures[index] = _Failure(str(error.get("Code")), str(error.get("Message")))


def _error_of(failures: Sequence[_Failure]) -> ChunkStoreError:
    for failure in failures:
        if failure.code in _BAD_CONTENT:
            # Without its message, which may quote what was written.
            return WriteRefused(f"DynamoDB refuses a write for what it contains: {failure.code}")
    first = failures[0]
    return StorageUnavailable(f"{len(failures)} writes kept failing, the first with {first.code}: {first.message}")


def _request(statement: Statement) -> "BatchStatementRequestTypeDef":
    return {
        "Statement": statement.text,
        "Parameters": list(statement.parameters),
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def _item(attributes: Mapping[str, Any] | None) -> Item | None:
    return Item(attributes) if attributes else None
