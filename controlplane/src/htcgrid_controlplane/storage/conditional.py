"""Conditional writes to DynamoDB: told apart are a failed condition and a conflict that passes."""

import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

from botocore.exceptions import ClientError

from htcgrid_chunks.backoff import Backoff

_Answer = TypeVar("_Answer")
_BACKOFF = Backoff(base=timedelta(milliseconds=25), cap=timedelta(seconds=1))
_TRIES = 8


def condition_failed(error: ClientError, index: int | None = None) -> bool:
    """Whether a write was refused by its condition; in a transaction, by that of the write at `index`."""
    response = cast("dict[str, Any]", error.response)
    if index is None:
        return bool(response["Error"]["Code"] == "ConditionalCheckFailedException")
    reasons = response.get("CancellationReasons", [])
    return len(reasons) > index and reasons[index].get("Code") == "ConditionalCheckFailed"


def retry_transaction_conflicts(write: Callable[[], _Answer], sleep: Callable[[float], None] = time.sleep) -> _Answer:
    """Make a write, and make it again after a wait while a transaction over the same row is under way: DynamoDB refuses
    it then, and the SDK does not try it again.

    Raises:
        ClientError: it was refused for another reason, or to the last.
    """
    for retry in range(1, _TRIES):
        try:
            return write()
        except ClientError as error:
            if error.response["Error"]["Code"] != "TransactionConflictException":
                raise
            sleep(_BACKOFF.wait(retry, random.random).total_seconds())
    return write()
