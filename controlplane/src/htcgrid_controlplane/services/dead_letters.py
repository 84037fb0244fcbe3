"""Records tasks that failed for good as dead letters, lists them, and purges them."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from htcgrid_chunks.chunk import Chunk
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_chunks.store import ChunkStore
from htcgrid_controlplane.errors import SessionNotFound
from htcgrid_controlplane.rules.accounting import BucketAccount
from htcgrid_controlplane.rules.letters import (
    chosen,
    failed_offsets,
    letters_of,
    without,
)
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.dead_letters import (
    ChunkLetters,
    DeadLetterStore,
)
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_dataplane import PayloadCorrupt, PayloadMissing, pick_lines, result_key
from htcgrid_dataplane.stores import Stores
from htcgrid_events import DeadLetter, DeadLetterPage, DeadLettersDone, PurgeTasks, TaskDeadLettered

MAX_CHUNKS = 100
"""Chunks with dead letters that one request goes through: a few requests to AWS each, within the API's 29 s."""
_MAX_BUCKETS = 200
"""Buckets that one request looks into, most of which hold no dead letter."""
_MAX_LETTERS = 2_000
"""Letters in one page: at about 1 KB each below the 6 MB of a Lambda function's answer."""
_MAX_LISTED_BYTES = 100_000
"""Letters in one event, which with its escapes stays below the 256 KB of EventBridge and of a workflow's state; the
event's number of failures counts those left out."""
_TRIES = 5

_Place = tuple[int, int] | tuple[None, None]
"""The bucket, and the chunk in it, behind which to go on; none at the end."""


@dataclass(frozen=True)
class DeadLetters:
    """Records, lists and purges dead letters."""

    sessions: SessionStore
    chunks: ChunkStore
    accounts: AccountStore
    store: DeadLetterStore
    stores: Stores

    def record(self, session_id: str, chunk: int) -> TaskDeadLettered | None:
        """Keep the failed tasks of a chunk as its row tells of them. Repeating it changes nothing.

        Gives what is to be announced; none if there is nothing, for the tasks were redriven or purged, or the session
        has expired.
        """
        try:
            session = self.sessions.read(session_id)
        except SessionNotFound:
            return None
        for _ in range(_TRIES):
            # The item is read before the row: a redrive in between moves it, and refuses what the row said before.
            known = self.store.read(session, chunk)
            row = self.chunks.read(session, chunk)
            if row is None or not row.finished:
                return None
            letters = self._letters_of(row, known.purged)
            told = replace(known, letters=letters)
            if told == known or not (letters or known.letters) or self.store.write(session, told):
                return _announced(session, chunk, letters)
        raise StorageUnavailable(f"the dead letters of chunk {chunk} of session {session_id} keep changing")

    def page(self, tenant: str, session_id: str, bucket: int, after: int) -> DeadLetterPage:
        """Dead letters of a session behind a chunk of a bucket.

        Raises:
            SessionNotFound: there is no such session among the tenant's.
        """
        session = self.sessions.read_of(tenant, session_id)
        found, place = self._walk(session, bucket, after, self._unrecorded)
        page: list[DeadLetter] = []
        for each in found:
            if page and len(page) + len(each.letters) > _MAX_LETTERS:
                break
            page += each.letters
            last = each.key
        else:
            return DeadLetterPage(letters=tuple(page), next_bucket=place[0], next_after=place[1])
        return DeadLetterPage(letters=tuple(page), next_bucket=last.bucket, next_after=last.chunk)

    def purge(self, tenant: str, session_id: str, request: PurgeTasks) -> DeadLettersDone:
        """Forget dead letters, for good; their tasks stay failed. Repeating it changes nothing.

        Raises:
            SessionNotFound: there is no such session among the tenant's.
        """
        session = self.sessions.read_of(tenant, session_id)
        found, (bucket, after) = self.walk(session, request.bucket, request.after)
        tasks = sum(self._purge(session, each.key.chunk, request) for each in found)
        return DeadLettersDone(tasks=tasks, next_bucket=bucket, next_after=after)

    def walk(self, session: Session, bucket: int, after: int) -> "tuple[list[ChunkLetters], _Place]":
        """Chunks with dead letters behind a chunk of a bucket, as far as one request goes; and where to go on: the
        bucket and the chunk, none at the end. What is not recorded yet is recorded."""
        return self._walk(session, bucket, after, self._record_all)

    def forget(self, session: Session, known: ChunkLetters, tasks: Collection[int]) -> None:
        """Drop the letters of tasks that run again. Nothing is dropped if the letters have changed since they were
        read: whoever comes next sees."""
        self.store.write(session, replace(known, letters=without(known.letters, tasks)))

    def _walk(
        self,
        session: Session,
        bucket: int,
        after: int,
        catch_up: "Callable[[Session, list[int]], list[ChunkLetters]]",
    ) -> "tuple[list[ChunkLetters], _Place]":
        """See `walk`. `catch_up` deals with chunks of which something failed and is not recorded yet: the workflow
        comes a moment after the failure, and whoever asks right after the verdict is to find everything. It gives
        letters that it has not recorded."""
        found: list[ChunkLetters] = []
        beyond = min(session.buckets, bucket + _MAX_BUCKETS)
        accounts = {each.bucket: each for each in self.accounts.read(session, range(bucket, beyond))}
        while bucket < beyond and len(found) < MAX_CHUNKS:
            more = catch_up(session, self._without_letters(session, accounts[bucket]))
            room = MAX_CHUNKS - len(found)
            page, following = self.store.bucket(session, bucket, after, room)
            page = _merged(page, [each for each in more if _between(each, after, following)])
            if len(page) > room:
                page = page[:room]
                following = page[-1].key.chunk
            found += page
            bucket, after = (bucket, following) if following is not None else (bucket + 1, -1)
        return found, (bucket, after) if bucket < session.buckets else (None, None)

    def _without_letters(self, session: Session, account: BucketAccount) -> list[int]:
        """Chunks of a bucket of which tasks failed that are not recorded."""
        if not account.tasks.failed:
            return []
        recorded = self.store.recorded(session, account.bucket)
        if sum(map(len, recorded.values())) >= account.tasks.failed:
            return []
        return [
            row.key.chunk
            for row in self.chunks.rows(session, account.bucket)
            if row.finished and row.failed_tasks - recorded.get(row.key.chunk, frozenset())
        ]

    def _record_all(self, session: Session, chunks: list[int]) -> list[ChunkLetters]:
        for chunk in chunks:
            self.record(session.session_id, chunk)
        return []

    def _unrecorded(self, session: Session, chunks: list[int]) -> list[ChunkLetters]:
        """The letters that will be recorded of these chunks. Nothing is written."""
        letters = []
        for chunk in chunks:
            known = self.store.read(session, chunk)
            row = self.chunks.read(session, chunk)
            if row is not None and row.finished:
                letters.append(replace(known, letters=self._letters_of(row, known.purged)))
        return letters

    def _purge(self, session: Session, chunk: int, request: PurgeTasks) -> int:
        for _ in range(_TRIES):
            known = self.store.read(session, chunk)
            tasks = chosen(known.letters, request.fingerprint, request.tasks)
            left = replace(known, letters=without(known.letters, tasks), purged=known.purged | tasks)
            if not tasks or self.store.write(session, left):
                return len(tasks)
        raise StorageUnavailable(f"the dead letters of chunk {chunk} of session {session.session_id} keep changing")

    def lines(self, row: Chunk, offsets: Collection[int]) -> Mapping[int, bytes]:
        """The results of tasks of a chunk by offset; none if they cannot be read any more.

        Raises:
            StoreUnavailable: the data plane could not be reached.
        """
        key = result_key(row.tenant, row.key.session_id, row.key.chunk, row.results_attempt)
        try:
            return pick_lines(row.results.parts(self.stores, key), row.size, offsets)
        except (PayloadMissing, PayloadCorrupt):
            return {}

    def _letters_of(self, row: Chunk, purged: Collection[int]) -> tuple[DeadLetter, ...]:
        return letters_of(row, self.lines(row, failed_offsets(row)), purged)


def _between(letters: ChunkLetters, after: int, last: int | None) -> bool:
    return after < letters.key.chunk and (last is None or letters.key.chunk <= last)


def _merged(page: Iterable[ChunkLetters], more: Iterable[ChunkLetters]) -> list[ChunkLetters]:
    """Letters by chunk, in order; those of `more` replace those of `page`."""
    by_chunk = {each.key.chunk: each for each in (*page, *more) if each.letters}
    return [by_chunk[chunk] for chunk in sorted(by_chunk)]


def _announced(session: Session, chunk: int, letters: tuple[DeadLetter, ...]) -> TaskDeadLettered | None:
    if not letters:
        return None
    listed: list[DeadLetter] = []
    room = _MAX_LISTED_BYTES
    for letter in letters:
        room -= len(letter.to_json())
        if room < 0:
            break
        listed.append(letter)
    return TaskDeadLettered(
        session_id=session.session_id,
        tenant=session.tenant,
        chunk=chunk,
        letters=tuple(listed),
        failed=sum(len(letter.tasks) for letter in letters),
    )
