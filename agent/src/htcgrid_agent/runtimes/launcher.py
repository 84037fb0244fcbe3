"""The two ways to have a runtime: started by the agent, or by another container that is told by files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from htcgrid_agent.runtimes.peer import Peer
from htcgrid_agent.runtimes.permits import Permits


@dataclass(frozen=True)
class Exit:
    """How a runtime ended."""

    code: int | None
    """The exit code, or minus the signal that ended it; none if nobody knows."""
    last_words: Sequence[str] = ()
    """The last lines that it wrote, where they are known."""


class Running(Protocol):
    """A runtime that was started, or will be by somebody else."""

    def kill(self) -> None:
        """End it and all that it started at once. Harmless if it has ended."""

    def tasks_begin(self, ids: Mapping[str, object], tasks: int) -> None:
        """It is about to be given so many tasks, which these ids name: what it wrote before is not of them."""

    def met(self) -> None:
        """It has asked for a task."""

    def owns(self, peer: Peer | None) -> bool:
        """Whether the process at the other end of a connection is its own; none is one that cannot be found."""

    def lost_touch(self) -> None:
        """Its connection was closed while it ran a task."""

    async def ended(self) -> Exit:
        """Wait for its end."""


class Launcher(Protocol):
    """Makes runtimes."""

    @property
    def own(self) -> bool:
        """Whether runtimes are started here, so that there will be one whenever one is wanted."""

    @property
    def answers_text(self) -> bool:
        """Whether a result that is not JSON is text, as on Lambda, and not a mistake of the runtime."""

    @property
    def function_digest(self) -> str:
        """Which version of the function its runtimes run; empty where that is not known, or not yet."""

    def port(self, number: int) -> int:
        """On which port the Runtime API of this worker must listen; 0 for any that is free."""

    async def launch(self, number: int, runtime_api: str, permits: Permits) -> Running:
        """Start a runtime that talks to `runtime_api` (host:port), and hand it its permits if it takes batches.

        Raises:
            OSError: it cannot be started.
        """
