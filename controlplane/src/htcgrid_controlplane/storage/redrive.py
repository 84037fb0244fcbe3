"""The one write that lets failed tasks of a finished chunk run again: a transaction over three rows.

    session   as it was read: ended, or running and not told to stop   → runs, its bucket is not full, redrives + 1
    account   the chunk is counted                                     → it is not, and what is late is not counted
    chunk     finished, attempt as it was read                         → queued, attempt + 1, chosen tasks open

All of it or nothing, so no crash leaves a chunk open that counts as finished, or the other way round. The redrive has
an attempt of its own: whatever comes of the chunk from now on has a higher number than what was counted before.

`redrives` tells those who read a session's accounts, and then say something of the session, that it moved meanwhile.
"""

import json
import random
import time
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from htcgrid_chunks.attributes import (
    binary,
    number,
    numbers,
    text,
)
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.chunk import (
    Chunk,
    Payload,
)
from htcgrid_chunks.chunk_rows import key_attributes
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_chunks.history import (
    History,
    encode_history,
)
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import (
    ACCOUNT_ROW,
    PAUSED_UNTIL,
)
from htcgrid_controlplane.rules.quotas import Demand
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.rules.sweep_schedule import (
    next_sweep_at,
    sweep_shard_of,
)
from htcgrid_controlplane.storage.conditional import condition_failed
from htcgrid_controlplane.storage.tenants import TenantStore
from htcgrid_dataplane import DEFAULT_STORE
from htcgrid_events import OutcomeCode, SessionState, Totals

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, TransactWriteItemTypeDef, UpdateTypeDef

_BACKOFF = Backoff(base=timedelta(milliseconds=25), cap=timedelta(seconds=1))
_TRIES = 10


class Redriven(StrEnum):
    """What became of a wish to redrive a chunk."""

    DONE = "done"
    SESSION_CHANGED = "session-changed"
    NOT_COUNTED = "not-counted"
    """Its outcome is on its way to be counted still."""
    CHUNK_CHANGED = "chunk-changed"


@dataclass(frozen=True)
class Reopening:
    """What a session that has ended is told when it reopens."""

    deadline_at: int
    totals: Totals
    """It takes no further chunks."""
    failed: int
    """Tasks that may run again: so many are counted for its tenant."""


@dataclass(frozen=True)
class Redrive:
    """Tasks of one finished chunk that are to run again."""

    session: Session
    """As it was read."""
    chunk: Chunk
    """As it was read."""
    outcomes: str
    """With the chosen tasks open."""
    now: int
    reopening: Reopening | None
    """If the session has ended."""
    history: History = field(default_factory=dict)
    """The tries of tasks that are open now, those of before the redrive included."""
    inputs: Payload | None = None
    """Where tasks are to have other events."""
    inputs_edition: str = ""

    @property
    def attempt(self) -> int:
        """The attempt that the redrive itself is."""
        return self.chunk.attempt + 1

    @property
    def paused(self) -> bool:
        """Whether the session is paused, so that the chunk waits until it is resumed."""
        return self.session.paused and self.reopening is None

    @property
    def failed(self) -> int:
        """How many of the tasks that run again have failed."""
        return self.outcomes.count(_OPEN)

    @property
    def tries(self) -> dict[int, int]:
        """How often tasks have failed, without those that begin anew."""
        return {offset: count for offset, count in self.chunk.tries.items() if self.outcomes[offset] != _OPEN}


_OPEN = OutcomeCode.OPEN.value
_ANSWERS = (Redriven.SESSION_CHANGED, Redriven.NOT_COUNTED, Redriven.CHUNK_CHANGED)
"""Whose condition failed, in the order of the writes."""


class RedriveStore:
    """Writes to the sessions and the chunks table."""

    def __init__(self, client: "DynamoDBClient", sessions_table: str, chunks_table: str, tenants: TenantStore) -> None:
        self._client = client
        self._tenants = tenants
        self._sessions_table = sessions_table
        self._chunks_table = chunks_table

    def write(self, redrive: Redrive) -> Redriven:
        """Let the tasks run again, if everything is as it was read.

        Raises:
            QuotaExceeded, NotAllowed: the tenant may not have the session open again.
            StorageUnavailable: the rows are being written by too many at once.
        """
        items: list[TransactWriteItemTypeDef] = [
            {"Update": self._session(redrive)},
            {"Update": self._account(redrive)},
            {"Update": self._chunk(redrive)},
        ]
        if redrive.reopening is not None:
            demand = Demand(sessions=1, tasks=redrive.reopening.failed)
            failed = self._tenants.take(redrive.session.tenant, demand, redrive.now, items)
            return Redriven.DONE if failed is None else _ANSWERS[failed]
        for retry in range(1, _TRIES + 1):
            try:
                self._client.transact_write_items(TransactItems=items)
            except ClientError as error:
                for index, answer in enumerate(_ANSWERS):
                    if condition_failed(error, index):
                        return answer
                if "CancellationReasons" not in error.response:
                    raise
                time.sleep(_BACKOFF.wait(retry, random.random).total_seconds())
            else:
                return Redriven.DONE
        raise StorageUnavailable(f"chunk {redrive.chunk.key.chunk} of {redrive.session.session_id} is being written")

    def _session(self, redrive: Redrive) -> "UpdateTypeDef":
        session = redrive.session
        values: dict[str, AttributeValueTypeDef] = {
            ":one": number(1),
            ":fewer": number(-redrive.failed if session.options.has_budget else 0),
            ":bucket": numbers([redrive.chunk.key.bucket]),
        }
        as_believed = "attribute_exists(paused)" if session.paused else "attribute_not_exists(paused)"
        request: UpdateTypeDef = {
            "TableName": self._sessions_table,
            "Key": {"session_id": text(session.session_id)},
            "UpdateExpression": "ADD redrives :one, failures :fewer DELETE full_buckets :bucket",
            "ConditionExpression": "attribute_exists(session_id) AND attribute_not_exists(ended_at) "
            f"AND attribute_not_exists(stop_reason) AND {as_believed}",
            "ExpressionAttributeValues": values,
        }
        if redrive.reopening is not None:
            totals = redrive.reopening.totals
            request["UpdateExpression"] += (
                " SET #state = :running, deadline_at = :deadline, total_chunks = :chunks, total_tasks = :tasks, "
                "open_shard = :shard, sweep_at = :sweep, counted_tasks = :failed "
                "REMOVE ended_at, submitted, completed, failed, cancelled, stop_reason, paused, lifecycle_execution, "
                "task_token"
            )
            request["ConditionExpression"] = "ended_at = :ended"
            request["ExpressionAttributeNames"] = {"#state": "state"}
            request["ExpressionAttributeValues"] = {
                **values,
                ":ended": number(session.ended_at or 0),
                ":running": text(SessionState.RUNNING),
                ":deadline": number(redrive.reopening.deadline_at),
                ":chunks": number(totals.chunks),
                ":tasks": number(totals.tasks),
                ":shard": number(sweep_shard_of(session.session_id)),
                ":sweep": number(next_sweep_at(redrive.now)),
                ":failed": number(redrive.reopening.failed),
            }
        return request

    def _account(self, redrive: Redrive) -> "UpdateTypeDef":
        counted = redrive.chunk.outcomes
        return {
            "TableName": self._chunks_table,
            "Key": {"bucket": text(redrive.chunk.key.partition_key), "chunk": number(ACCOUNT_ROW)},
            "UpdateExpression": "SET reopened.#chunk = :attempt REMOVE finished.#chunk "
            "ADD completed :completed, failed :failed, cancelled :cancelled, redrives :one",
            "ConditionExpression": "attribute_exists(finished.#chunk)",
            "ExpressionAttributeNames": {"#chunk": str(redrive.chunk.key.chunk)},
            "ExpressionAttributeValues": {
                ":attempt": number(redrive.chunk.attempt),
                ":completed": number(-counted.count(OutcomeCode.COMPLETED.value)),
                ":failed": number(-counted.count(OutcomeCode.FAILED.value)),
                ":cancelled": number(-counted.count(OutcomeCode.CANCELLED.value)),
                ":one": number(1),
            },
        }

    def _chunk(self, redrive: Redrive) -> "UpdateTypeDef":
        sets: dict[str, AttributeValueTypeDef] = {
            "#state": text(ChunkState.PAUSED if redrive.paused else ChunkState.QUEUED),
            "attempt": number(redrive.attempt),
            "returned": number(redrive.attempt),
            "claimable_at": number(PAUSED_UNTIL if redrive.paused else redrive.now),
            "outcomes": text(redrive.outcomes),
            "tries": text(json.dumps(redrive.tries, separators=(",", ":"))),
        }
        removes = ["started_at", "finished_at"]
        if redrive.history:
            sets["history"] = binary(encode_history(redrive.history))
        else:
            removes.append("history")
        if redrive.inputs is not None and redrive.inputs.data is not None:
            sets["inputs"] = binary(redrive.inputs.data)
            removes += ["inputs_bytes", "inputs_edition", "inputs_store"]
        elif redrive.inputs is not None and redrive.inputs.stored_bytes is not None:
            sets["inputs_bytes"] = number(redrive.inputs.stored_bytes)
            sets["inputs_edition"] = text(redrive.inputs_edition)
            removes.append("inputs")
            if redrive.inputs.store == DEFAULT_STORE:
                removes.append("inputs_store")
            else:
                sets["inputs_store"] = text(redrive.inputs.store)
        key = redrive.chunk.key
        return {
            "TableName": self._chunks_table,
            "Key": key_attributes(key),
            "UpdateExpression": f"SET {', '.join(f'{name} = :v{place}' for place, name in enumerate(sets))} "
            f"REMOVE {', '.join(removes)}",
            "ConditionExpression": "#state = :finished AND attempt = :seen",
            "ExpressionAttributeNames": {"#state": "state"},
            "ExpressionAttributeValues": {
                **{f":v{place}": value for place, value in enumerate(sets.values())},
                ":finished": text(ChunkState.FINISHED),
                ":seen": number(redrive.chunk.attempt),
            },
        }
