"""The bucket accounts: one row for every `BUCKET_SIZE` chunks, beside them under the same partition key.

    submitted_chunks  number set      chunks that the API has taken over
    edges             number          a sum over the places of these chunks, see `rules/tiling.py`
    finished          map             chunk number → moment (ms) at which its outcome was counted
    reopened          map             chunk number → the attempt that was counted before its tasks were redriven
    redrives          number          how often a chunk was taken out of `finished` for that; see `storage/redrive.py`
    submitted, completed, failed, cancelled    tasks
    versions          string set      versions of the function that tasks of finished chunks ran on
    tenant, expires_at                whose it is; see `storage/ownership.py`

A counter moves only in the write that adds to the set or map that it counts, on condition that the chunk is not yet
in it. So a message that comes twice changes nothing. One that tells of an attempt before a redrive changes nothing
either: whether there was one is a condition of every such write.

No attribute is called as one that agents may write, since their policy cannot tell the rows of chunks from these.
"""

import random
import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from htcgrid_chunks.attributes import (
    Item,
    number,
    numbers,
    text,
    texts,
)
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.chunk import bucket_key
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_chunks.store import ACCOUNT_ROW
from htcgrid_controlplane.errors import SessionChanged, SessionConflict
from htcgrid_controlplane.rules.accounting import (
    BucketAccount,
    latest,
)
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.rules.tiling import Span, sum_of_edges
from htcgrid_controlplane.storage.batch_get import batch_get
from htcgrid_controlplane.storage.conditional import (
    condition_failed,
    retry_transaction_conflicts,
)
from htcgrid_controlplane.storage.ownership import owns
from htcgrid_events import BUCKET_SIZE, Account, ChunkOutcome, OutcomeCode

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeValueTypeDef,
        TransactWriteItemTypeDef,
        UpdateItemInputTypeDef,
        UpdateItemOutputTypeDef,
    )

_MAX_COUNTED = 48
"""Most chunks counted in one write: an expression may have 4 KB ("Quotas in Amazon DynamoDB")."""
_BACKOFF = Backoff(base=timedelta(milliseconds=25), cap=timedelta(seconds=1))
_TRIES = 10


class AccountStore:
    """Reads and writes the accounts of buckets."""

    def __init__(self, client: "DynamoDBClient", chunks_table: str, sessions_table: str) -> None:
        self._client = client
        self._table = chunks_table
        self._sessions_table = sessions_table

    def add_submitted(
        self,
        session: Session,
        bucket: int,
        spans: Sequence[Span],
        expected: int,
        *,
        seen: BucketAccount | None = None,
    ) -> BucketAccount:
        """Count chunks as submitted; those that are counted already change nothing.

        The session row is checked in the same transaction: once it is told to stop, nothing is added any more, so
        whoever stops it finds every submitted chunk in the accounts. So does whoever pauses it, for `session` shows
        whether the caller believes that it is paused. `seen` is the account if it was read, which spares a refused
        write.

        Raises:
            SessionChanged: the session was stopped, paused or resumed meanwhile.
            SessionConflict: an earlier session of the same id left an account behind.
        """
        account = seen if seen is not None and seen.submitted else None
        for retry in range(1, _TRIES + 1):
            known = account.submitted if account else frozenset()
            new = [span for span in spans if span.chunk not in known]
            if account and not new:
                return account
            try:
                self._client.transact_write_items(
                    TransactItems=[
                        self._session_accepts(session),
                        self._add(session, bucket, new, account, expected),
                    ]
                )
            except ClientError as error:
                if condition_failed(error, index=0):
                    raise SessionChanged(f"Session {session.session_id} was stopped, paused or resumed.") from error
                if not (condition_failed(error, index=1) or _conflicted(error)):
                    raise
                if _conflicted(error):
                    time.sleep(_BACKOFF.wait(retry, random.random).total_seconds())
                account = self._read_to_add(session, bucket)
                continue
            before = account if account and account.submitted else BucketAccount(bucket)
            return BucketAccount(
                bucket,
                Account(submitted=before.tasks.submitted + sum(span.size for span in new)),
                known.union(span.chunk for span in new),
                edges=None if before.edges is None else before.edges + sum_of_edges(new),
                expected=expected,
            )
        raise StorageUnavailable(
            f"bucket {bucket} of session {session.session_id} is being written by too many at once"
        )

    def expect(self, session: Session, bucket: int, chunks: int) -> BucketAccount:
        """Note how many chunks a bucket will hold, now that the client has said how many there are in all."""
        response = self._write(
            {
                "TableName": self._table,
                "Key": _key(session.session_id, bucket),
                "UpdateExpression": "SET expected = :chunks",
                "ExpressionAttributeValues": {":chunks": number(chunks)},
                "ReturnValues": "ALL_NEW",
            }
        )
        return _account(bucket, Item(response["Attributes"]))

    def record(
        self, session: Session, bucket: int, outcomes: Sequence[ChunkOutcome], now: int
    ) -> tuple[BucketAccount, list[int]]:
        """Count outcomes, each chunk once; of one that was redriven, the first that tells of a later attempt. Gives the
        account as it is then, and the chunks that were new.

        Raises:
            StorageUnavailable: nothing was ever submitted into this bucket.
        """
        distinct = list(latest(outcomes).values())
        account: BucketAccount | None = None
        new: list[int] = []
        for start in range(0, len(distinct), _MAX_COUNTED):
            account = self._record_some(session, bucket, distinct[start : start + _MAX_COUNTED], now, new)
        return account or self.read(session, [bucket])[0], new

    def _record_some(
        self, session: Session, bucket: int, outcomes: Sequence[ChunkOutcome], now: int, new: list[int]
    ) -> BucketAccount:
        fresh = {outcome.chunk: outcome for outcome in outcomes}
        account: BucketAccount | None = None
        while fresh:
            uncounted = [
                f"contains(submitted_chunks, :c{chunk}) AND attribute_not_exists(finished.#c{chunk})" for chunk in fresh
            ]
            unmoved, seen = _unmoved(account)
            counts, values = _counts(fresh.values())
            request: UpdateItemInputTypeDef = {
                "TableName": self._table,
                "Key": _key(session.session_id, bucket),
                "UpdateExpression": f"SET {', '.join(f'finished.#c{chunk} = :now' for chunk in fresh)} ADD {counts}",
                "ConditionExpression": " AND ".join(["expires_at = :expires", unmoved, *uncounted]),
                "ExpressionAttributeNames": {f"#c{chunk}": str(chunk) for chunk in fresh},
                "ExpressionAttributeValues": {
                    ":now": number(now),
                    ":expires": number(session.expires_at),
                    **{f":c{chunk}": number(chunk) for chunk in fresh},
                    **seen,
                    **values,
                },
                "ReturnValues": "ALL_NEW",
            }
            try:
                response = self._write(request)
            except ClientError as error:
                if not condition_failed(error):
                    raise
                account = self.read(session, [bucket])[0]
                if not account.submitted:
                    raise StorageUnavailable(
                        f"bucket {bucket} of session {session.session_id} has no account"
                    ) from error
                fresh = {chunk: outcome for chunk, outcome in fresh.items() if account.awaits(outcome)}
            else:
                new += fresh
                return _account(bucket, Item(response["Attributes"]))
        return account or self.read(session, [bucket])[0]

    def correct(self, session: Session, seen: BucketAccount, true: Account) -> bool:
        """Replace the counters of a bucket's account; false if it has changed since it was read."""
        try:
            self._write(
                {
                    "TableName": self._table,
                    "Key": _key(session.session_id, seen.bucket),
                    "UpdateExpression": "SET submitted = :s, completed = :c, failed = :f, cancelled = :x",
                    "ConditionExpression": "submitted = :s0 AND completed = :c0 AND failed = :f0 AND cancelled = :x0",
                    "ExpressionAttributeValues": {**_counters("", true), **_counters("0", seen.tasks)},
                }
            )
        except ClientError as error:
            if condition_failed(error):
                return False
            raise
        return True

    def read(self, session: Session, buckets: Sequence[int]) -> list[BucketAccount]:
        """The accounts of these buckets, as last written; an empty one where the session has no row yet."""
        bucket_of_key = {bucket_key(session.session_id, bucket): bucket for bucket in buckets}
        found: dict[int, BucketAccount] = {}
        for item in batch_get(self._client, self._table, [_key(session.session_id, bucket) for bucket in buckets]):
            if owns(session, item):
                bucket = bucket_of_key[item.text("bucket")]
                found[bucket] = _account(bucket, item)
        return [found.get(bucket, BucketAccount(bucket)) for bucket in buckets]

    def _read_to_add(self, session: Session, bucket: int) -> BucketAccount:
        for item in batch_get(self._client, self._table, [_key(session.session_id, bucket)]):
            if not owns(session, item):
                raise SessionConflict.used_id(session.session_id)
            return _account(bucket, item)
        return BucketAccount(bucket)

    def _write(self, request: "UpdateItemInputTypeDef") -> "UpdateItemOutputTypeDef":
        return retry_transaction_conflicts(lambda: self._client.update_item(**request))

    def _session_accepts(self, session: Session) -> "TransactWriteItemTypeDef":
        as_believed = "attribute_exists(paused)" if session.paused else "attribute_not_exists(paused)"
        return {
            "ConditionCheck": {
                "TableName": self._sessions_table,
                "Key": {"session_id": text(session.session_id)},
                "ConditionExpression": "attribute_exists(session_id) AND attribute_not_exists(stop_reason) "
                f"AND {as_believed}",
            }
        }

    def _add(
        self,
        session: Session,
        bucket: int,
        spans: Sequence[Span],
        seen: BucketAccount | None,
        expected: int,
    ) -> "TransactWriteItemTypeDef":
        values: dict[str, AttributeValueTypeDef] = {
            ":chunks": numbers(span.chunk for span in spans),
            ":tasks": number(sum(span.size for span in spans)),
        }
        added = "ADD submitted_chunks :chunks, submitted :tasks"
        if seen is None or not seen.submitted or seen.edges is not None:
            values[":edges"] = number(sum_of_edges(spans))
            added += ", edges :edges"
        if seen is None or not seen.submitted:
            # The first chunks of a bucket make its row; `submitted` only grows, so it tells whether someone else wrote.
            values |= {
                ":finished": {"M": {}},
                ":reopened": {"M": {}},
                ":zero": number(0),
                ":expected": number(expected),
                ":tenant": text(session.tenant),
                ":expires": number(session.expires_at),
            }
            update = (
                "SET finished = :finished, reopened = :reopened, completed = :zero, failed = :zero, cancelled = :zero, "
                "expected = if_not_exists(expected, :expected), tenant = :tenant, expires_at = :expires "
            )
            condition = "attribute_not_exists(submitted)"
        else:
            values[":seen"] = number(seen.tasks.submitted)
            update, condition = "", "submitted = :seen"
        return {
            "Update": {
                "TableName": self._table,
                "Key": _key(session.session_id, bucket),
                "UpdateExpression": update + added,
                "ConditionExpression": condition,
                "ExpressionAttributeValues": values,
            }
        }


def _key(session_id: str, bucket: int) -> "dict[str, AttributeValueTypeDef]":
    return {"bucket": text(bucket_key(session_id, bucket)), "chunk": number(ACCOUNT_ROW)}


def _counters(mark: str, account: Account) -> "dict[str, AttributeValueTypeDef]":
    return {
        f":s{mark}": number(account.submitted),
        f":c{mark}": number(account.completed),
        f":f{mark}": number(account.failed),
        f":x{mark}": number(account.cancelled),
    }


def _unmoved(account: BucketAccount | None) -> "tuple[str, dict[str, AttributeValueTypeDef]]":
    """The condition that no chunk was reopened but those that the account shows; without an account, that none was."""
    if account is not None and account.redrives:
        return "redrives = :redrives", {":redrives": number(account.redrives)}
    return "attribute_not_exists(redrives)", {}


def _counts(outcomes: Collection[ChunkOutcome]) -> "tuple[str, dict[str, AttributeValueTypeDef]]":
    """What is added to an account for these outcomes, and its values."""
    codes = "".join(outcome.outcomes for outcome in outcomes)
    values: dict[str, AttributeValueTypeDef] = {
        ":completed": number(codes.count(OutcomeCode.COMPLETED.value)),
        ":failed": number(codes.count(OutcomeCode.FAILED.value)),
        ":cancelled": number(codes.count(OutcomeCode.CANCELLED.value)),
    }
    if digests := {digest for outcome in outcomes for digest in outcome.function_digests}:
        values[":versions"] = texts(digests)
    return ", ".join(f"{name[1:]} {name}" for name in values), values


def _account(bucket: int, item: Item) -> BucketAccount:
    return BucketAccount(
        bucket=bucket,
        tasks=Account(
            submitted=item.number("submitted"),
            completed=item.number("completed"),
            failed=item.number("failed"),
            cancelled=item.number("cancelled"),
        ),
        submitted=item.numbers("submitted_chunks"),
        finished={int(chunk): at for chunk, at in item.number_map("finished").items()},
        reopened={int(chunk): attempt for chunk, attempt in item.number_map("reopened").items()},
        redrives=item.number("redrives"),
        edges=item.number("edges") if "edges" in item else None,
        function_digests=item.texts("versions"),
        expected=item.number("expected", BUCKET_SIZE),
    )


def _conflicted(error: ClientError) -> bool:
    reasons = error.response.get("CancellationReasons", [])
    return any(reason.get("Code") == "TransactionConflict" for reason in reasons)
