"""The sessions table: one row for each session, written a few times however many tasks it has."""

import random
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from htcgrid_chunks.attributes import (
    Item,
    number,
    numbers,
    text,
)
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.clock import Clock
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_controlplane.errors import SessionConflict, SessionNotFound
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.rules.transitions import SESSION_TRANSITIONS
from htcgrid_controlplane.storage.batch_get import batch_get
from htcgrid_controlplane.storage.conditional import (
    condition_failed,
    retry_transaction_conflicts,
)
from htcgrid_controlplane.storage.session_rows import (
    Listed,
    listed_of,
    row_of,
    session_of,
)
from htcgrid_events import Account, SessionState, Totals

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeValueTypeDef,
        QueryInputTypeDef,
        TransactWriteItemTypeDef,
        UpdateItemInputTypeDef,
    )

TENANT_INDEX = "tenant_sessions"
"""The index by tenant and time of creation. A tenant's sessions share a key, which bears 1,000 writes a second: some
300 sessions a second, which is also what Step Functions starts."""

_BACKOFF = Backoff(base=timedelta(milliseconds=25), cap=timedelta(seconds=1))
_TRIES = 12

MAX_SUBSCRIBERS = 16
"""Most push connections that follow one session: each costs a push per batch of finished chunks."""


class SessionStore:
    """Reads and writes rows of the sessions table."""

    def __init__(self, client: "DynamoDBClient", table: str, clock: Clock, retention_days: int) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._retention_ms = retention_days * 86_400_000

    def insertion(self, session: Session) -> "TransactWriteItemTypeDef":
        """The write that inserts the row if it is absent, for a transaction."""
        return {
            "Put": {
                "TableName": self._table,
                "Item": row_of(session),
                "ConditionExpression": "attribute_not_exists(session_id)",
            }
        }

    def counting(self, session_id: str, *, chunks: int, tasks: int) -> "TransactWriteItemTypeDef":
        """The write that notes what a session's tenant is counted for it, for a transaction. Its condition fails where
        the session takes no more."""
        return {
            "Update": {
                "TableName": self._table,
                "Key": {"session_id": text(session_id)},
                "UpdateExpression": "ADD counted_tasks :tasks, counted_chunks :chunks",
                "ConditionExpression": "attribute_exists(counted_tasks) AND attribute_not_exists(stop_reason) "
                "AND attribute_not_exists(ended_at)",
                "ExpressionAttributeValues": {":tasks": number(tasks), ":chunks": number(chunks)},
            }
        }

    def read(self, session_id: str) -> Session:
        """The row, as last written.

        Raises:
            SessionNotFound: there is none, or the session is past its time.
        """
        response = self._client.get_item(
            TableName=self._table, Key={"session_id": text(session_id)}, ConsistentRead=True
        )
        if "Item" not in response:
            raise SessionNotFound(session_id)
        session = session_of(Item(response["Item"]))
        if session.forgotten(self._clock()):
            raise SessionNotFound(session_id)
        return session

    def read_many(self, session_ids: Sequence[str]) -> list[Session]:
        """Those rows that there are, as last written, in any order.

        Raises:
            StorageUnavailable: DynamoDB kept refusing.
        """
        keys = [{"session_id": text(session_id)} for session_id in session_ids]
        return [session_of(row) for row in batch_get(self._client, self._table, keys)]

    def read_of(self, tenant: str, session_id: str) -> Session:
        """The row of a tenant's session, as last written.

        Raises:
            SessionNotFound: there is none, or it is another's: the two are not told apart.
        """
        session = self.read(session_id)
        if session.tenant != tenant:
            raise SessionNotFound(session_id)
        return session

    def reserve_buckets(self, session_id: str, buckets: int) -> None:
        """Note that chunks may lie in buckets below this number, before the first of them is submitted."""
        self._change(
            session_id, "SET buckets = :buckets", "buckets < :buckets", {":buckets": number(buckets)}, or_ignore=True
        )

    def close(self, session_id: str, totals: Totals) -> Session:
        """Note how much the session holds; it takes no further chunks beyond that.

        Raises:
            SessionConflict: it was closed with other totals.
        """
        session = self._change(
            session_id,
            "SET total_chunks = :chunks, total_tasks = :tasks, #state = :running",
            "attribute_exists(session_id) AND #state = :open AND attribute_not_exists(total_chunks)",
            {
                ":chunks": number(totals.chunks),
                ":tasks": number(totals.tasks),
                ":running": text(SessionState.RUNNING),
                ":open": text(SessionState.OPEN),
            },
            or_ignore=True,
        )
        if session.totals != totals and session.stop_reason is None:
            raise SessionConflict(f"Session {session_id} was closed with {session.totals}, not with {totals}.")
        return session

    def add_full(self, session: Session, buckets: frozenset[int]) -> Session:
        """Note that every chunk of these buckets has finished, as accounts say that were read after `session` was. If
        a chunk was reopened since, nothing is noted: the row that is given then has other `redrives`."""
        unmoved, seen = _unmoved(session)
        return self._change(
            session.session_id,
            "ADD full_buckets :full",
            f"attribute_exists(session_id) AND {unmoved}",
            {":full": numbers(buckets), **seen},
            or_ignore=True,
        )

    def store_token(self, session_id: str, token: str) -> Session:
        """Keep the task token with which the lifecycle workflow is woken."""
        return self._change(
            session_id, "SET task_token = :token", "attribute_exists(session_id)", {":token": text(token)}
        )

    def stop(self, session_id: str, reason: EndReason) -> Session:
        """Tell the session to take no more chunks and to cancel its open tasks; the first reason stays."""
        return self._change(
            session_id,
            "SET stop_reason = :reason",
            "attribute_exists(session_id) AND attribute_not_exists(stop_reason) AND attribute_not_exists(ended_at)",
            {":reason": text(reason)},
            or_ignore=True,
        )

    def pause(self, session_id: str, *, paused: bool) -> Session:
        """Note whether the chunks that wait are to be paused. A session that has ended stays as it is."""
        return self._change(
            session_id,
            "SET paused = :yes" if paused else "REMOVE paused",
            "attribute_exists(session_id) AND attribute_not_exists(ended_at)",
            {":yes": {"BOOL": True}} if paused else {},
            or_ignore=True,
        )

    def add_failures(self, session_id: str, failures: int) -> Session:
        """Count tasks that failed for good."""
        return self._change(
            session_id, "ADD failures :failures", "attribute_exists(session_id)", {":failures": number(failures)}
        )

    def correct_failures(self, session_id: str, failures: int) -> Session:
        """Say how many tasks have failed for good, as counted elsewhere; a higher count stays."""
        return self._change(
            session_id,
            "SET failures = :failures",
            "attribute_exists(session_id) AND (attribute_not_exists(failures) OR failures < :failures)",
            {":failures": number(failures)},
            or_ignore=True,
        )

    def of_tenant(
        self, tenant: str, state: SessionState | None, before: str | None, limit: int
    ) -> tuple[list[Listed], str | None]:
        """Sessions of a tenant, newest first, from those made before `before` on; and where to go on, if anywhere.
        Those past their time are left out: the index does not hold when that is, but it follows from the deadline."""
        query: QueryInputTypeDef = {
            "TableName": self._table,
            "IndexName": TENANT_INDEX,
            "KeyConditionExpression": "tenant = :tenant AND listed < :before",
            "FilterExpression": "deadline_at > :forgotten",
            "ExpressionAttributeValues": {
                ":tenant": text(tenant),
                ":before": text(before or "9"),
                ":forgotten": number(self._clock() - self._retention_ms),
            },
            "ScanIndexForward": False,
            "Limit": limit,
        }
        if state is not None:
            query["FilterExpression"] += " AND #state = :state"
            query["ExpressionAttributeNames"] = {"#state": "state"}
            query["ExpressionAttributeValues"] = {**query["ExpressionAttributeValues"], ":state": text(state)}
        response = self._client.query(**query)
        last = response.get("LastEvaluatedKey")
        return [listed_of(Item(row)) for row in response["Items"]], Item(last).text("listed") if last else None

    def subscribe(self, session_id: str, subscriber_id: str) -> Session:
        """Let a push connection follow the session. Repeating it changes nothing.

        Raises:
            SessionConflict: the session has `MAX_SUBSCRIBERS` others already.
        """
        session = self._change(
            session_id,
            "ADD subscribers :ids",
            "attribute_exists(session_id) AND (attribute_not_exists(subscribers) "
            "OR contains(subscribers, :id) OR size(subscribers) < :most)",
            {":ids": {"SS": [subscriber_id]}, ":id": text(subscriber_id), ":most": number(MAX_SUBSCRIBERS)},
            or_ignore=True,
        )
        if subscriber_id not in session.subscribers:
            raise SessionConflict(f"Session {session_id} is followed by {MAX_SUBSCRIBERS} subscribers already.")
        return session

    def end(
        self,
        session: Session,
        verdict: SessionState,
        account: Account,
        now: int,
        function_digests: Sequence[str] = (),
        *,
        giving_back: "TransactWriteItemTypeDef | None" = None,
    ) -> Session:
        """Write the verdict and the account, once; the row then stays as it is until a task is redriven. Nothing is
        written if a chunk was reopened or counted since `session` was read. `now` is in ms.

        `giving_back` is written with the verdict or not at all; where its own condition fails, it is left out.

        Raises:
            StorageUnavailable: the rows are being written by too many at once.
        """
        update = self._verdict(session, verdict, account, now, function_digests)
        items = [update] if giving_back is None else [update, giving_back]
        for retry in range(1, _TRIES + 1):
            try:
                self._client.transact_write_items(TransactItems=items)
            except ClientError as error:
                if condition_failed(error, 0):
                    break
                if condition_failed(error, 1):
                    items = [update]
                elif "CancellationReasons" not in error.response:
                    raise
                else:
                    time.sleep(_BACKOFF.wait(retry, random.random).total_seconds())
            else:
                break
        else:
            raise StorageUnavailable(f"the row of session {session.session_id} is being written by too many at once")
        return self.read(session.session_id)

    def _verdict(
        self, session: Session, verdict: SessionState, account: Account, now: int, function_digests: Sequence[str]
    ) -> "TransactWriteItemTypeDef":
        before = [state for state, after in SESSION_TRANSITIONS.items() if verdict in after]
        states = {f":from{index}": text(state) for index, state in enumerate(before)}
        unmoved, seen = _unmoved(session)
        if session.counted_tasks is None:
            uncounted = "attribute_not_exists(counted_tasks)"
        else:
            uncounted = "counted_tasks = :counted"
            seen = {**seen, ":counted": number(session.counted_tasks)}
        return {
            "Update": {
                "TableName": self._table,
                "Key": {"session_id": text(session.session_id)},
                "UpdateExpression": "SET #state = :verdict, ended_at = :now, submitted = :submitted, "
                "completed = :completed, failed = :failed, cancelled = :cancelled, "
                "function_digests = :function_digests "
                "REMOVE task_token, open_shard, sweep_at, sweep_bucket, counted_tasks",
                "ConditionExpression": f"#state IN ({', '.join(states)}) AND {unmoved} AND {uncounted}",
                "ExpressionAttributeNames": {"#state": "state"},
                "ExpressionAttributeValues": {
                    **states,
                    **seen,
                    ":verdict": text(verdict),
                    ":now": number(now),
                    ":submitted": number(account.submitted),
                    ":completed": number(account.completed),
                    ":failed": number(account.failed),
                    ":cancelled": number(account.cancelled),
                    ":function_digests": text(" ".join(function_digests)),
                },
            }
        }

    def _change(
        self,
        session_id: str,
        update: str,
        condition: str,
        values: "Mapping[str, AttributeValueTypeDef]",
        *,
        or_ignore: bool = False,
    ) -> Session:
        request: UpdateItemInputTypeDef = {
            "TableName": self._table,
            "Key": {"session_id": text(session_id)},
            "UpdateExpression": update,
            "ConditionExpression": condition,
            "ReturnValues": "ALL_NEW",
        }
        if values:
            request["ExpressionAttributeValues"] = values
        if "#state" in update + condition:
            request["ExpressionAttributeNames"] = {"#state": "state"}
        try:
            response = retry_transaction_conflicts(lambda: self._client.update_item(**request))
        except ClientError as error:
            if not condition_failed(error):
                raise
            if not or_ignore:
                raise SessionNotFound(session_id) from error
            return self.read(session_id)
        return session_of(Item(response["Attributes"]))


def _unmoved(session: Session) -> "tuple[str, dict[str, AttributeValueTypeDef]]":
    """The condition that no chunk was reopened since the session was read, and the values that it names."""
    if session.redrives:
        return "redrives = :redrives", {":redrives": number(session.redrives)}
    return "attribute_not_exists(redrives)", {}
