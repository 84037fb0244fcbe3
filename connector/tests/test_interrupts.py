"""Ctrl-C at any moment of a wait is a KeyboardInterrupt for who waits, and breaks nothing."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from types import FrameType

import pytest

from htcgrid._aio.engine import Engine
from htcgrid.cli.task_stream import TasksReadAhead

pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")


def interrupted(call: Callable[[], object], step: int) -> bool:
    """Call something and raise KeyboardInterrupt at a step of it, as signal handlers do. False when it was over before.

    Python runs signal handlers where a function begins and where a function that is not Python's has returned.
    """
    seen = 0

    def at_step(frame: FrameType, event: str, argument: object) -> None:
        nonlocal seen
        in_callback = frame.f_code.co_name == "_remove"  # of a WeakSet, where Python itself drops what is raised
        seen += event in {"call", "c_return"} and not in_callback
        if seen == step and not in_callback:
            raise KeyboardInterrupt

    sys.setprofile(at_step)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def test_a_wait_for_the_event_loop_may_be_interrupted_anywhere() -> None:
    engine = Engine()
    begun: list[object] = []
    ended: list[object] = []

    async def work() -> None:
        begun.append(asyncio.current_task())
        try:
            await asyncio.sleep(0.01)
        finally:
            ended.append(asyncio.current_task())

    async def left() -> list[object]:
        for _ in range(10):  # what was cancelled ends first
            await asyncio.sleep(0)
        return [task for task in begun if task not in ended]

    steps = next(step for step in count(1) if not interrupted(lambda: engine.run(work()), step))
    assert steps > 10
    assert engine.run(left()) == []
    engine.close()


def test_a_wait_for_a_stream_may_be_interrupted_anywhere() -> None:
    def read(step: int) -> bool:
        go_on = threading.Event()

        def source() -> Iterator[tuple[int, int]]:
            yield 1, 1
            go_on.wait(60)
            yield 2, 1

        ahead = TasksReadAhead(source())
        timer = threading.Timer(0.01, go_on.set)
        timer.start()
        try:
            return interrupted(lambda: list(ahead), step)
        finally:
            ahead.stop(EOFError())  # does not wait for a lock that the interrupted thread left behind
            timer.join()

    assert next(step for step in count(1) if not read(step)) > 10
