"""Does a worker load the handler? Found out by starting one, before any task depends on it."""

import asyncio
from datetime import timedelta

from htcgrid_agent.errors import HandlerNotLoaded
from htcgrid_agent.execution.worker import Worker
from htcgrid_agent.runtimes.launcher import Launcher
from htcgrid_agent.work.task import Failed
from htcgrid_chunks.clock import system_clock


async def try_handler(launcher: Launcher, arn: str, init_timeout: timedelta) -> None:
    """Start one worker, and end it again when it has loaded the handler.

    Raises:
        HandlerNotLoaded: it could not load the handler; the message has the error of its runtime, trace and all.
    """
    trial = _Trial()
    worker = Worker(0, launcher, arn, trial, system_clock, init_timeout)
    await worker.start()
    try:
        failure = await trial.outcome
    finally:
        await worker.stop()
    if failure is not None:
        lines = (f"the handler cannot be loaded: {failure.type}: {failure.message}", *failure.trace)
        raise HandlerNotLoaded("\n".join(line.rstrip("\n") for line in lines))


class _Trial:
    """The owner of the worker that is tried."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Failed | None] = asyncio.get_running_loop().create_future()

    def ready(self, worker: Worker) -> None:
        """See `Owner`."""
        self._note(None)

    def changed(self) -> None:
        """See `Owner`. Nothing depends on it."""

    def broken(self, worker: Worker, failure: Failed) -> None:
        """See `Owner`."""
        self._note(failure)

    def _note(self, failure: Failed | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(failure)
