"""Tells a refused condition from every other error of DynamoDB."""

from typing import Any, cast

from botocore.exceptions import ClientError


def condition_failed(error: ClientError, index: int | None = None) -> bool:
    """Whether a write was refused by its condition; in a transaction, by that of the write at `index`."""
    response = cast("dict[str, Any]", error.response)
    if index is None:
        return bool(response["Error"]["Code"] == "ConditionalCheckFailedException")
    reasons = response.get("CancellationReasons", [])
    return len(reasons) > index and reasons[index].get("Code") == "ConditionalCheckFailed"
