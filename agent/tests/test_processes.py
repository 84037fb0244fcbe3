"""The end of a worker's process, moment by moment."""

import asyncio
import logging
import os
from typing import cast

import pytest

from htcgrid_agent.runtimes.child_process import WorkerProcess
from htcgrid_agent.runtimes.last_words import LastWords
from htcgrid_agent.runtimes.worker_log import WorkerLog


class EndedProcess:
    """A process that has ended and whose stderr is open still."""

    pid = 2**22 + 1
    """More than Linux ever gives, so that nobody is killed."""
    returncode = 3

    async def wait(self) -> int:
        return 3


def outputs(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What workers wrote, line by line."""
    return [record.__dict__["output"] for record in caplog.records if "output" in record.__dict__]


@pytest.mark.parametrize("turns", range(12))
def test_who_stops_waiting_for_an_end_is_never_held_up(turns: int) -> None:
    async def stop_after_turns() -> None:
        words = LastWords(WorkerLog(0))
        writer = os.dup(words.descriptor)
        words.start()
        process = cast("asyncio.subprocess.Process", EndedProcess())
        ending = asyncio.create_task(WorkerProcess(process, words, lambda pid: None).ended())
        for _ in range(5):
            await asyncio.sleep(0)
        os.write(writer, b"last words\n")
        os.close(writer)
        for _ in range(turns):
            await asyncio.sleep(0)
        if not ending.done():
            ending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ending
        else:
            assert (ending.result().code, list(ending.result().last_words)) == (3, ["last words"])

    asyncio.run(stop_after_turns())


def test_what_a_worker_wrote_last_is_in_the_log_of_an_agent_that_stops_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async def stop_after_its_last_words() -> None:
        words = LastWords(WorkerLog(0))
        pipe = asyncio.subprocess.PIPE
        script = 'echo "first words" >&2; echo 1; read go; echo "last words" >&2; echo 2; while :; do echo on >&2; done'
        process = await asyncio.create_subprocess_shell(script, stdin=pipe, stdout=pipe, stderr=words.descriptor)
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdout.readline()
        words.start()
        ending = asyncio.create_task(WorkerProcess(process, words, lambda pid: None).ended())
        # The regular read has no event to wait for.
        while "first words" not in outputs(caplog):  # noqa: ASYNC110
            await asyncio.sleep(0)
        process.stdin.write(b"go\n")
        await process.stdout.readline()  # before the next regular read
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        process.kill()
        await process.wait()

    asyncio.run(stop_after_its_last_words())
    assert "last words" in outputs(caplog)
