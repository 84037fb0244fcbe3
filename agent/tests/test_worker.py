"""A worker whose runtime ends, in whatever way, is replaced, and the task that it ran has an end."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
import uvloop
from agent.tests.harness import PYTHON_RUNTIMES, Place

from htcgrid_agent.execution.worker import Worker
from htcgrid_agent.runtimes.launcher import Exit
from htcgrid_agent.runtimes.peer import Peer
from htcgrid_agent.runtimes.permits import Permits
from htcgrid_agent.work.task import Batch, Failed, Task, TaskEnd
from htcgrid_chunks.clock import system_clock
from htcgrid_events import FailureKind


class Dispatcher:
    """Gives one task to the first runtime, and hears what became of it."""

    def __init__(self) -> None:
        self.ends: list[TaskEnd] = []
        self.readied: asyncio.Queue[Worker] = asyncio.Queue()

    def ready(self, worker: Worker) -> None:
        self.readied.put_nowait(worker)

    def changed(self) -> None:
        pass

    def broken(self, worker: Worker, failure: Failed) -> None:
        pass

    def task_ended(self, batch: Batch, task: Task, end: TaskEnd, seconds: float) -> None:
        self.ends.append(end)

    def tasks_returned(self, batch: Batch, tasks: Sequence[Task]) -> None:
        pass


class HttpRuntime:
    """Asks for a task, and its first end is reported in a way that nobody expects."""

    def __init__(self, api: str, failure: BaseException | None) -> None:
        self._failure = failure
        self.is_own = True
        self.asked = asyncio.Event()
        self._asking = asyncio.create_task(self._ask(api))
        self.given = asyncio.Event()

    async def _ask(self, api: str) -> None:
        host, _, port = api.partition(":")
        reader, self._writer = await asyncio.open_connection(host, int(port))
        self._writer.write(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: a\r\n\r\n")
        await self._writer.drain()
        self.asked.set()
        await reader.readuntil(b"\r\n\r\n")
        self.given.set()

    def kill(self) -> None:
        self._asking.cancel()
        self._writer.close()

    def tasks_begin(self, ids: Mapping[str, object], tasks: int) -> None:
        pass

    def met(self) -> None:
        pass

    def owns(self, peer: Peer | None) -> bool:
        return self.is_own and peer is not None

    def lost_touch(self) -> None:
        pass

    async def ended(self) -> Exit:
        await self.given.wait()
        if self._failure:
            raise self._failure
        return Exit(0)


class Launcher:
    """Starts a runtime that fails, and then healthy ones."""

    function_digest = ""
    own = True
    answers_text = False

    def __init__(self, *failures: BaseException) -> None:
        self._failures = deque(failures)

    def port(self, number: int) -> int:
        return 0

    async def launch(self, number: int, runtime_api: str, permits: Permits) -> HttpRuntime:
        return HttpRuntime(runtime_api, self._failures.popleft() if self._failures else None)


@pytest.mark.parametrize("failure", [ValueError("what nobody thought of"), asyncio.CancelledError()])
def test_a_worker_is_replaced_whatever_its_keeper_died_of(failure: BaseException) -> None:
    async def scenario() -> None:
        dispatcher = Dispatcher()
        worker = Worker(0, Launcher(failure), "arn", dispatcher, system_clock, timedelta(seconds=10))
        await worker.start()
        await asyncio.wait_for(dispatcher.readied.get(), 10)
        worker.give(Batch("s" * 32, 0, 1, 60, deque([Task(0, b"1")]), dispatcher))
        # Another runtime asks for a task only when the first is known to be gone.
        await asyncio.wait_for(dispatcher.readied.get(), 10)
        (end,) = dispatcher.ends
        assert isinstance(end, Failed)
        assert (end.kind, end.type) == (FailureKind.CRASH, "Runtime.ExitError")
        await worker.stop()

    asyncio.run(scenario())


class QuickLauncher(Launcher):
    """Its runtimes ask for a task before their launch is known."""

    def __init__(self, is_own: bool) -> None:
        super().__init__()
        self._is_own = is_own
        self.dispatcher = Dispatcher()
        self.runtime: HttpRuntime | None = None
        self.launching = asyncio.Event()
        self.given_too_early = False

    async def launch(self, number: int, runtime_api: str, permits: Permits) -> HttpRuntime:
        self.runtime = runtime = HttpRuntime(runtime_api, None)
        runtime.is_own = self._is_own
        self.launching.set()
        await runtime.asked.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        self.given_too_early = not self.dispatcher.readied.empty()
        return runtime


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("is_own", [True, False])
def test_who_asks_before_the_launch_is_known_waits_for_it(run: Callable[[Any], None], is_own: bool) -> None:
    async def scenario() -> None:
        launcher = QuickLauncher(is_own)
        dispatcher = launcher.dispatcher
        worker = Worker(0, launcher, "arn", dispatcher, system_clock, timedelta(seconds=60))
        await worker.start()
        if is_own:
            await asyncio.wait_for(dispatcher.readied.get(), 60)
            worker.give(Batch("s" * 32, 0, 1, 60, deque([Task(0, b"1")]), dispatcher))
            assert launcher.runtime
            await asyncio.wait_for(launcher.runtime.given.wait(), 60)
        else:
            await asyncio.wait_for(launcher.launching.wait(), 60)
            assert launcher.runtime
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await asyncio.wait_for(asyncio.shield(launcher.runtime._asking), 60)
            assert dispatcher.readied.empty()
            assert worker.refused_connections == 1
        assert not launcher.given_too_early
        await worker.stop()

    run(scenario())


DEATHS: list[tuple[dict[str, object], str]] = [
    ({"do": "signal", "number": 35}, "The worker ended with signal 35."),
    ({"do": "signal", "number": 64}, "The worker ended with signal SIGRTMAX."),
    ({"do": "exit_code", "code": 163}, "The worker ended with exit code 163."),
]


@pytest.mark.parametrize("runtime", PYTHON_RUNTIMES, indirect=True)
def test_every_signal_and_exit_code_is_the_end_of_its_task_alone(place: Place) -> None:
    place.agent(workers=1)
    session = place.submit([*(event for event, _ in DEATHS), {"do": "echo", "value": 1}], max_retries=0)
    *errors, one = place.results(session)
    assert [(error.kind, error.message) for error in errors] == [(FailureKind.CRASH, words) for _, words in DEATHS]
    assert one == 1
