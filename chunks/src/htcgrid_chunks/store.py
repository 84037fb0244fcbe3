"""The chunks table: every write of a chunk's life, each with its condition.

    insert        if absent                                → claimable at once
    claim         claimable_at is past                     → attempt + 1, owner, claimable_at = end of the lease
    extend        running, owner and attempt mine          → claimable_at = new end of the lease; in the index
    checkpoint    running, owner and attempt mine          → the same, and outcomes so far
    finish        running, owner and attempt mine          → outcomes and results, never claimable again
    retry         running, owner and attempt mine          → outcomes so far, claimable_at = end of the backoff
    cancel        state, attempt, claimable_at as seen     → open tasks cancelled, never claimable again
    pause         waiting, attempt, claimable_at as seen   → not claimable until it is resumed
    resume        paused, attempt, claimable_at as seen    → claimable at once
    redeliver     state, attempt, claimable_at as seen     → counted as in vain until it is claimed
    redrive       see `storage/redrive.py` of the control plane

`claimable_at` is one number for three waits: 0 while queued, the end of the lease while running, the end of the
backoff before a retry. A finished chunk has none. Every write moves it, so it also tells whether a row has changed.

`lease_shard` puts a row into the index of leases, see `storage/lease_index.py` of the control plane. Only a heartbeat
sets it, and every end of an attempt removes it, so a chunk that is shorter than the first heartbeat never pays for the
index.

`owner` and `attempt` fence: once another agent has claimed a chunk, whatever the former one writes is refused.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from htcgrid_chunks.attributes import (
    Item,
    binary,
    number,
    text,
)
from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
    Payload,
    bucket_key,
)
from htcgrid_chunks.chunk_rows import chunk_of, key_attributes, new_row, row_key, stored_results
from htcgrid_chunks.history import (
    History,
    encode_history,
)
from htcgrid_chunks.lease_rules import shard_of
from htcgrid_chunks.partiql import (
    Batches,
    Statement,
    Written,
)
from htcgrid_chunks.state import ChunkState
from htcgrid_dataplane import DEFAULT_STORE
from htcgrid_events import OutcomeCode

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, QueryInputTypeDef

PAUSED_UNTIL = 2**53
"""The moment (ms) from which a paused chunk can be claimed: none that a clock ever shows."""

ACCOUNT_ROW = -1
"""The sort key of a bucket's account, which lies before its chunks and is no chunk."""


@dataclass(frozen=True)
class Claim:
    """A request to run a chunk: by which agent, until when (ms), and what is known of its message."""

    key: ChunkKey
    owner: str
    now: int
    lease_expires_at: int
    message_id: str
    queued_at: int
    tenant: str
    """Whose session it is, as its message says: a row of another tenant under the same key is not the chunk."""


@dataclass(frozen=True)
class ChunkLease:
    """The right of an agent to write a chunk that it has claimed."""

    key: ChunkKey
    owner: str
    attempt: int


@dataclass(frozen=True)
class ChunkProgress:
    """What an attempt made of a chunk: a letter per task, the results so far, how often tasks have failed, and how."""

    outcomes: str
    results: Payload
    tries: dict[int, int]
    started_at: int
    finished_at: int
    history: History = field(default_factory=dict)
    function_digests: tuple[str, ...] = ()
    store_before: str = DEFAULT_STORE
    """Where the row, when it was claimed, said that results lie."""


class _Conclusion(NamedTuple):
    lease: ChunkLease
    progress: ChunkProgress
    state: ChunkState
    claimable_at: int | None = None


class RowOwner(Protocol):
    """A session, as far as its rows are concerned."""

    @property
    def session_id(self) -> str:
        """Its id, with which the keys of its rows begin."""

    def owns(self, chunk: Chunk) -> bool:
        """Whether a row under such a key is its own."""


class ChunkStore:
    """Reads and writes rows of the chunks table. Reading gives the rows of a session that are its own: others under
    its keys, which an earlier session of the same id left behind, do not exist."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table
        self._batches = Batches(client)

    def insert(self, chunks: Iterable[Chunk]) -> list[bool]:
        """Insert rows that are absent; false for each that existed already, whosever it is."""
        statements = [_insert(self._table, chunk) for chunk in chunks]
        return [written.accepted for written in self._batches.execute(statements)]

    def claim(self, claims: Sequence[Claim]) -> list[tuple[bool, Chunk | None]]:
        """Claim chunks. Returns, for each, whether the caller has its lease, and its row if there is one."""
        written = self._batches.execute([self._claim(claim) for claim in claims])
        return [self._claimed(claim, answer) for claim, answer in zip(claims, written, strict=True)]

    def _claimed(self, claim: Claim, answer: Written) -> tuple[bool, Chunk | None]:
        row = self._row_of(claim.key, answer)
        # Compared here, and not in the statement: an agent's role may not even name the tenant (template.yaml).
        return (False, None) if row is not None and row.tenant != claim.tenant else (answer.accepted, row)

    def extend(self, leases: Sequence[ChunkLease], lease_expires_at: int) -> list[bool]:
        """Prolong leases to `lease_expires_at` (ms); false for each that was lost meanwhile."""
        statements = [
            self._update(
                lease,
                "SET claimable_at = ? SET lease_shard = ?",
                [number(lease_expires_at), number(shard_of(lease.key))],
            )
            for lease in leases
        ]
        return [written.accepted for written in self._batches.execute(statements)]

    def checkpoint(self, work: Sequence[tuple[ChunkLease, ChunkProgress, int]]) -> list[bool]:
        """Keep the outcomes so far and extend the leases to the third of each (ms); false for each that was lost."""
        return self._conclude([_Conclusion(lease, progress, ChunkState.RUNNING, at) for lease, progress, at in work])

    def finish(self, work: Sequence[tuple[ChunkLease, ChunkProgress]]) -> list[bool]:
        """Record outcomes for good; false for each lease that was lost: its results count for nothing."""
        return self._conclude([_Conclusion(lease, progress, ChunkState.FINISHED) for lease, progress in work])

    def retry(self, work: Sequence[tuple[ChunkLease, ChunkProgress, int]]) -> list[bool]:
        """Keep the outcomes so far and let the open tasks be claimed again from `retry_at` (ms, third of each) on."""
        return self._conclude([_Conclusion(lease, progress, ChunkState.RETRY, at) for lease, progress, at in work])

    def cancel(self, chunks: Sequence[Chunk], now: int) -> list[bool]:
        """Cancel the open tasks of unfinished chunks; false for each row that has changed since it was read."""
        return [written.accepted for written in self._batches.execute([self._cancel(chunk, now) for chunk in chunks])]

    def pause(self, chunks: Sequence[Chunk]) -> list[bool]:
        """Let chunks that wait, queued or for a retry, not be claimed; false for each row that has changed."""
        statements = [
            self._as_seen(
                chunk,
                f"SET state = '{ChunkState.PAUSED}' SET claimable_at = ? REMOVE lease_shard",
                [number(PAUSED_UNTIL)],
            )
            for chunk in chunks
        ]
        return [written.accepted for written in self._batches.execute(statements)]

    def resume(self, chunks: Sequence[Chunk]) -> list[bool]:
        """Let paused chunks be claimed at once; false for each row that has changed since it was read."""
        statements = [
            self._as_seen(chunk, f"SET state = '{ChunkState.QUEUED}' SET claimable_at = ?", [number(0)])
            for chunk in chunks
        ]
        return [written.accepted for written in self._batches.execute(statements)]

    def redeliver(self, chunk: Chunk) -> bool:
        """Note that a chunk gets a new message for an undeliverable one; false if it has changed
        since it was read."""
        changes = "SET redeliveries = ? SET redelivered_attempt = ?"
        values = [number(chunk.redeliveries_in_vain + 1), number(chunk.attempt)]
        return self._batches.execute([self._as_seen(chunk, changes, values)])[0].accepted

    def read(self, session: RowOwner, chunk: int) -> Chunk | None:
        """The row of a chunk, as last written; none if the session has none."""
        row = self._read(ChunkKey(session.session_id, chunk))
        return row if row is not None and session.owns(row) else None

    def _read(self, key: ChunkKey) -> Chunk | None:
        response = self._client.get_item(
            TableName=self._table,
            Key=key_attributes(key),
            ConsistentRead=True,
        )
        return chunk_of(key, Item(response["Item"])) if "Item" in response else None

    def rows(self, session: RowOwner, bucket: int) -> Iterator[Chunk]:
        """All rows of a bucket, in order, page by page."""
        after: int | None = ACCOUNT_ROW
        while after is not None:
            page, after = self.bucket(session, bucket, after)
            yield from page

    def bucket(self, session: RowOwner, bucket: int, after: int = ACCOUNT_ROW) -> tuple[list[Chunk], int | None]:
        """Rows of a bucket behind chunk `after`, in order, up to 1 MB; and the chunk after which to go on, if any."""
        query: QueryInputTypeDef = {
            "TableName": self._table,
            "KeyConditionExpression": "#bucket = :bucket AND chunk > :after",
            "ExpressionAttributeNames": {"#bucket": "bucket"},
            "ExpressionAttributeValues": {
                ":bucket": text(bucket_key(session.session_id, bucket)),
                ":after": number(after),
            },
            "ConsistentRead": True,
        }
        response = self._client.query(**query)
        items = [Item(row) for row in response["Items"]]
        chunks = [chunk_of(ChunkKey(session.session_id, item.number("chunk")), item) for item in items]
        last = response.get("LastEvaluatedKey")
        return [chunk for chunk in chunks if session.owns(chunk)], Item(last).number("chunk") if last else None

    def _row_of(self, key: ChunkKey, answer: Written) -> Chunk | None:
        if answer.item is not None:
            return chunk_of(key, answer.item)
        # A claim that was accepted has a row, whatever the answer left out: never take it for a chunk that is gone.
        return self._read(key) if answer.accepted else None

    def _claim(self, claim: Claim) -> Statement:
        return Statement(
            f'UPDATE "{self._table}" SET state = \'{ChunkState.RUNNING}\' SET attempt = attempt + 1 SET "owner" = ? '
            "SET claimable_at = ? SET claimed_at = ? SET queued_at = ? SET message_id = ? "
            'WHERE "bucket" = ? AND chunk = ? AND claimable_at <= ? RETURNING ALL NEW *',
            [
                text(claim.owner),
                number(claim.lease_expires_at),
                number(claim.now),
                number(claim.queued_at),
                text(claim.message_id),
                *row_key(claim.key),
                number(claim.now),
            ],
        )

    def _update(self, lease: ChunkLease, changes: str, values: "Sequence[AttributeValueTypeDef]") -> Statement:
        still_mine = f"state = '{ChunkState.RUNNING}' AND \"owner\" = ? AND attempt = ?"
        return Statement(
            f'UPDATE "{self._table}" {changes} WHERE "bucket" = ? AND chunk = ? AND {still_mine}',
            [*values, *row_key(lease.key), text(lease.owner), number(lease.attempt)],
        )

    def _conclude(self, work: "Sequence[_Conclusion]") -> list[bool]:
        statements = []
        for lease, progress, state, claimable_at in work:
            changes: list[tuple[str, AttributeValueTypeDef]] = [
                ("outcomes", text(progress.outcomes)),
                ("started_at", number(progress.started_at)),
                ("finished_at", number(progress.finished_at)),
                *stored_results(progress.results, lease.attempt, progress.store_before),
            ]
            if claimable_at is not None:
                changes.append(("claimable_at", number(claimable_at)))
            match state:
                case ChunkState.RUNNING:
                    changes += [("progressed", number(lease.attempt)), ("lease_shard", number(shard_of(lease.key)))]
                case ChunkState.RETRY:
                    changes.append(("returned", number(lease.attempt)))
            if progress.tries:
                changes.append(("tries", text(json.dumps(progress.tries, separators=(",", ":")))))
            if progress.history:
                changes.append(("history", binary(encode_history(progress.history))))
            if progress.function_digests:
                changes.append(("function_digests", text(" ".join(progress.function_digests))))
            clauses = " ".join(f"SET {name} = ?" for name, _ in changes)
            remove = " REMOVE results" if progress.results.stored_bytes is not None else ""
            if claimable_at is None:
                remove += " REMOVE claimable_at"
            if state is not ChunkState.RUNNING:
                remove += " REMOVE lease_shard"
            statements.append(
                self._update(
                    lease,
                    f"SET state = '{state}' {clauses}{remove}",
                    [value for _, value in changes],
                )
            )
        return [
            written.accepted or _repeated(written.item, conclusion)
            for conclusion, written in zip(work, self._batches.execute(statements), strict=True)
        ]

    def _cancel(self, chunk: Chunk, now: int) -> Statement:
        outcomes = chunk.outcomes.replace(OutcomeCode.OPEN.value, OutcomeCode.CANCELLED.value)
        changes = f"SET state = '{ChunkState.FINISHED}' SET outcomes = ? SET finished_at = ? "
        changes += "REMOVE claimable_at REMOVE lease_shard"
        return self._as_seen(chunk, changes, [text(outcomes), number(now)])

    def _as_seen(self, chunk: Chunk, changes: str, values: "Sequence[AttributeValueTypeDef]") -> Statement:
        """A write that is refused if the row has changed since it was read."""
        seen = [text(chunk.state), number(chunk.attempt), number(chunk.claimable_at)]
        return Statement(
            f'UPDATE "{self._table}" {changes} '
            'WHERE "bucket" = ? AND chunk = ? AND state = ? AND attempt = ? AND claimable_at = ?',
            [*values, *row_key(chunk.key), *seen],
        )


def _repeated(row: Item | None, conclusion: _Conclusion) -> bool:
    """Whether a write was refused only because it had been made: it was repeated after its first answer was lost."""
    lease, progress, state, _ = conclusion
    return row is not None and (
        (row.text("state"), row.text("owner"), row.number("attempt"), row.text("outcomes"), row.number("finished_at"))
        == (state, lease.owner, lease.attempt, progress.outcomes, progress.finished_at)
    )


def _insert(table: str, chunk: Chunk) -> Statement:
    attributes = new_row(chunk)
    fields = ", ".join(f"'{name}': ?" for name in attributes)
    return Statement(f'INSERT INTO "{table}" VALUE {{{fields}}}', list(attributes.values()))
