"""A session that a pool works on while a test disturbs it, and what must hold of it in the end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from htcgrid import JSON, FinishedTask, Session, SessionStatus
from htcgrid_chunks.state import ChunkState
from tests.e2e.stored import Stored
from tests.kubernetes.pool import Pool
from tests.kubernetes.waiting import PATIENCE, until


def naps(count: int, seconds: float = 2) -> list[JSON]:
    """Tasks that take a while and give back their numbers."""
    return [{"do": "sleep", "seconds": seconds, "value": number} for number in range(count)]


class Work:
    """A session whose tasks are scheduled one by one."""

    def __init__(self, pool: Pool, session: Session) -> None:
        self.session = session
        self._pool = pool
        self._stored = Stored(pool.grid.local)

    def claimed(self) -> int:
        """How many chunks were ever claimed."""
        return sum(row.attempt > 0 for row in self._stored.rows(self.session.id))

    def interrupted(self) -> dict[int, Any]:
        """The chunks whose tasks did not complete at their first try, and what ended that.

        An agent that hands back what it has not begun interrupts nothing.
        """
        return {row.key.chunk: row.history for row in self._stored.rows(self.session.id) if row.history}

    def busy(self) -> set[str]:
        """The pods that hold a task: an agent's id is the name of its pod."""
        return {row.owner for row in self._stored.rows(self.session.id) if row.state is ChunkState.RUNNING}

    def finished(self) -> int:
        """How many tasks have their outcome."""
        return sum(row.finished for row in self._stored.rows(self.session.id))

    def wait_until_busy(self, agents: int = 1) -> set[str]:
        """The names of the pods that hold tasks, once there are so many."""
        return until(lambda: found if len(found := self.busy()) >= agents else set(), f"{agents} busy agents")

    def end(self) -> tuple[list[FinishedTask], SessionStatus]:
        """All tasks in their order, and the account, which must close, once the session has ended."""
        tasks = sorted(self.session.as_completed(timeout=PATIENCE), key=lambda task: task.index)
        status = self.session.wait(timeout=PATIENCE)
        account = status.account
        assert account.submitted == account.completed + account.failed + account.cancelled
        assert [task.index for task in tasks] == list(range(account.submitted)), "a task was lost, or came twice"
        return tasks, status

    def complete(self) -> None:
        """Wait for the end, and make sure that every task has its own result."""
        tasks, status = self.end()
        assert [task.get() for task in tasks] == list(range(len(tasks)))
        assert status.account.completed == len(tasks)


@contextmanager
def work_of(pool: Pool, tasks: Sequence[Any], **options: Any) -> Iterator[Work]:
    """Submit tasks. What the agents said is part of the error if the block fails."""
    with pool.grid.connect() as grid:
        session = grid.submit(tasks, chunk_size=1, **options)
        try:
            yield Work(pool, session)
        except Exception as error:
            error.add_note(pool.logs())
            raise
        finally:
            session.cancel()
