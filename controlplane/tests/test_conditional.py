"""Writes that a transaction hinders."""

from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from htcgrid_controlplane.storage.conditional import retry_transaction_conflicts


def hindered(times: int, code: str = "TransactionConflictException") -> Callable[[], int]:
    """A write that is refused so often."""
    calls = 0

    def write() -> int:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "UpdateItem")
        return calls

    return write


def test_a_write_is_made_again_while_a_transaction_is_under_way_and_waits_in_between() -> None:
    waits: list[float] = []
    assert retry_transaction_conflicts(hindered(5), waits.append) == 6
    assert len(waits) == 5
    assert all(0 <= wait <= 1 for wait in waits)


def test_a_transaction_that_does_not_end_is_an_error() -> None:
    with pytest.raises(ClientError, match="TransactionConflict"):
        retry_transaction_conflicts(hindered(99), lambda _: None)


def test_what_refuses_a_write_is_not_asked_again() -> None:
    write = hindered(1, "ConditionalCheckFailedException")
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        retry_transaction_conflicts(write, lambda _: None)
    assert write() == 2
