"""Filling a session: its chunks in batches, and what becomes of it when that breaks off."""

from typing import TYPE_CHECKING

from htcgrid.errors import EmptySession, GridError, SessionClosed, SessionNotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from htcgrid._follow.collector import Collector
    from htcgrid._submit.encoding import Encoder
    from htcgrid._submit.packing import EncodedChunk
    from htcgrid._submit.submission import Submission
    from htcgrid._transport.api import Api


class Feed:
    """The way into one session that this program has opened. Used by one caller, one call at a time.

    One batch is held back, since the last one carries the totals, which close the session.
    """

    def __init__(self, api: "Api", collector: "Collector", submission: "Submission", encoder: "Encoder") -> None:
        self._api = api
        self._collector = collector
        self._submission = submission
        self.encoder = encoder
        self._held: Sequence[EncodedChunk] = ()
        self._over = ""

    @property
    def created(self) -> bool:
        """Whether the grid knows the session."""
        return self._submission.created

    @property
    def holds_back(self) -> bool:
        """Whether a batch is held back."""
        return bool(self._held)

    @property
    def open(self) -> bool:
        """Whether the session takes more tasks."""
        return not self._over

    def check_open(self) -> None:
        """Raises `SessionClosed` when the session takes no more tasks."""
        if self._over:
            raise SessionClosed(f"session {self._submission.session_id} takes no more tasks: {self._over}")

    async def create(self) -> None:
        """Create the session without a task. Raises what `Api` raises."""
        await self._submission.create()

    async def send(self, batch: "Sequence[EncodedChunk]") -> None:
        """Send the batch that is held, and hold this one."""
        if self._held:
            await self._submission.send(self._held)
        self._held = batch

    async def send_all(self, batches: "Iterable[Sequence[EncodedChunk]]", end: "Callable[[], Awaitable[None]]") -> None:
        """Send these batches, then await `end`. When that breaks off, the session is abandoned."""
        try:
            for batch in batches:
                await self.send(batch)
            await end()
        except BaseException as error:
            await self.abandon(error)
            raise

    async def flush(self) -> None:
        """Send everything and wait until the grid has acknowledged it."""
        await self.send(())
        await self._submission.settle()

    async def close(self) -> None:
        """Send everything with the totals: the session takes no more, and will have a verdict.

        Raises:
            EmptySession: it holds no task.
        """
        if not self.encoder.tasks:
            raise EmptySession("there is no task to submit: give at least one")
        await self._submission.finish(self._held)
        self._held = ()
        self._over = "it was closed"
        chunks, tasks = self._submission.totals
        self._collector.close(chunks=chunks, tasks=tasks)

    async def abandon(self, error: BaseException, *, repeatable: bool = True) -> None:
        """Leave no half a session behind, unless it may be `repeatable`; and tell in the error what was done."""
        self._over = "its submission broke off"
        await self._submission.stop()
        session_id, submission = self._submission.session_id, self._submission
        if repeatable and isinstance(error, GridError) and error.retryable:
            _tell(error, f"to go on, submit the same tasks again with session_id={session_id!r}")
        # An interrupted creation may have succeeded; a refused one may have met a session that is not ours to cancel.
        elif submission.created or (submission.begun and not isinstance(error, GridError)):
            try:
                await self._api.cancel(session_id)
            except SessionNotFound:
                return
            except GridError as fault:
                _tell(error, f"what was already sent of session {session_id} is not cancelled: {fault}")
            else:
                _tell(error, f"what was already sent of session {session_id} has been cancelled")


def _tell(error: BaseException, what: str) -> None:
    if isinstance(error, GridError):
        error.args = (f"{str(error).removesuffix('.')}; {what}", *error.args[1:])
    else:
        error.add_note(what)  # the user's own error or Ctrl-C: not ours to reword
