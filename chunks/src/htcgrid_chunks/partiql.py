"""Batches of conditional writes. Each statement has its own condition and its own answer.

"BatchExecuteStatement" (DynamoDB API Reference): up to 25 statements a request; a request that succeeds may hold
statements that failed. `UPDATE … RETURNING ALL NEW *` gives the row as written.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from htcgrid_chunks.attributes import Item
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.errors import StorageUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, BatchStatementRequestTypeDef

MAX_STATEMENTS = 25
_REFUSED = frozenset({"ConditionalCheckFailed", "DuplicateItem"})
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
_TRIES = 8


@dataclass(frozen=True)
class Statement:
    """One conditional write, with `?` for its parameters."""

    text: str
    parameters: "Sequence[AttributeValueTypeDef]"


@dataclass(frozen=True)
class Written:
    """What became of a statement: `accepted`, or refused by its condition. `item` is the row as it is now, where the
    statement asked for it or its condition failed on an existing row."""

    accepted: bool
    item: Item | None


class Batches:
    """Executes statements in batches, and retries those that were throttled."""

    def __init__(self, client: "DynamoDBClient", sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._sleep = sleep

    def execute(self, statements: Sequence[Statement]) -> list[Written]:
        """Execute all statements; the answers are in their order.

        Raises:
            StorageUnavailable: a statement kept failing for a reason other than its condition.
        """
        answers: dict[int, Written] = {}
        open_ones = list(range(len(statements)))
        for retry in range(1, _TRIES + 1):
            failures: dict[int, str] = {}
            for start in range(0, len(open_ones), MAX_STATEMENTS):
                self._execute_some(statements, open_ones[start : start + MAX_STATEMENTS], answers, failures)
            if not failures:
                return [answers[index] for index in range(len(statements))]
            open_ones = sorted(failures)
            self._sleep(_BACKOFF.wait(retry, random.random).total_seconds())
        raise StorageUnavailable(f"{len(open_ones)} writes kept failing, the first with: {failures[open_ones[0]]}")

    def _execute_some(
        self,
        statements: Sequence[Statement],
        chosen: Sequence[int],
        answers: dict[int, Written],
        failures: dict[int, str],
    ) -> None:
        requests = [_request(statements[index]) for index in chosen]
        responses = self._client.batch_execute_statement(Statements=requests)["Responses"]
        for index, response in zip(chosen, responses, strict=True):
            error: Mapping[str, Any] | None = response.get("Error")
            if error is None:
                answers[index] = Written(accepted=True, item=_item(response.get("Item")))
            elif error.get("Code") in _REFUSED:
                answers[index] = Written(accepted=False, item=_item(error.get("Item")))
            elif error.get("Code") in _TRANSIENT:
                failures[index] = f"{error.get('Code')}: {error.get('Message')}"
            else:
                raise StorageUnavailable(f"a write failed with {error.get('Code')}: {error.get('Message')}")


def _request(statement: Statement) -> "BatchStatementRequestTypeDef":
    return {
        "Statement": statement.text,
        "Parameters": list(statement.parameters),
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def _item(attributes: Mapping[str, Any] | None) -> Item | None:
    return Item(attributes) if attributes else None
