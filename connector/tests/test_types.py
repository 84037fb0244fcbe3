"""What mypy says of users' code: right code passes, wrong code does not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

RIGHT = """
import asyncio
import concurrent.futures
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypedDict

from htcgrid import JSON, AsyncGrid, FinishedTask, Grid, GridExecutor, Profile, SessionState, TaskFailed, TaskTimes


class Trade(TypedDict):
    notional: float


def risk(name: str, *, times: int) -> float:
    return len(name) * times


trades: list[Trade] = [{"notional": 1.0}]
loose: list[dict[str, object]] = [{"x": 1}]
looser: list[dict[str, Any]] = [{"x": 1}]
nested: list[Mapping[str, list[float]]] = [{"x": [1.0]}]
event: JSON = {"x": [1, 2.5, None, {"y": "z"}]}

with Grid.connect(Profile.load(), request_timeout=timedelta(seconds=5), notifications="auto") as grid:
    for tasks in (trades, loose, looser, nested, range(3), [event], ({"x": x} for x in range(3))):
        session = grid.submit(tasks, max_retries=1, timeout=60, non_retryable=[ValueError, "x"], on_result=print)
    with grid.open_session(on_exit="keep", priority="high") as session:
        added: range = session.add(loose, chunk_size=3)
    state: SessionState = session.wait(timeout=timedelta(seconds=1), progress=True).state
    for task in session.as_completed():
        done: FinishedTask = task
        if isinstance(task.error, TaskFailed):
            attempts: int = task.error.attempts
    listed: list[Any] = session.results(order="completed", return_exceptions=True)
    concurrent.futures.wait(session.futures())
    times: TaskTimes = session.timeline()[0]
    with GridExecutor(grid, priority="low") as executor:
        future: concurrent.futures.Future[float] = executor.submit(risk, "x", times=2)
    first: object = next(grid.map(range(3), buffersize=10))


async def main() -> list[Any]:
    async with await AsyncGrid.connect() as grid:
        async with await grid.submit(trades) as session:
            async for task in session.as_completed():
                print(task.index)
            return await asyncio.gather(*await session.futures())
"""

WRONG = {
    "grid.submit(5)": "arg-type",
    "grid.submit([object()])": "list-item",
    "grid.submit([1], prority='high')": "call-arg",
    "grid.submit([1], max_retries='2')": "arg-type",
    "grid.submit([1], timeout='1h')": "arg-type",
    "grid.submit([1], non_retryable=[int])": "list-item",
    "grid.submit([1], on_exit='drop')": "arg-type",
    "grid.submit([1], on_result=5)": "arg-type",
    "grid.submit([1]).results(order='random')": "arg-type",
    "grid.submit([1]).results(True)": "call-arg|misc",
    "grid.submit([1]).result()": "attr-defined",
    "grid.submit([1]).id = 'x'": "misc",
    "grid.attach(5)": "arg-type",
    "grid.map([1], timeout='1h')": "arg-type",
    "grid.submit([1]).wait(timeout='5')": "arg-type",
    "grid.cancel(5)": "arg-type",
    "Grid.connect(notifications='mail')": "arg-type",
    "GridExecutor(grid).submit(len, 5)": "arg-type",
    "number: int = grid.submit([1]).status()": "assignment",
}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What mypy says of each example, by one run over all."""
    folder = tmp_path_factory.mktemp("types")
    (folder / "right.py").write_text(RIGHT, encoding="utf-8")
    for number, code in enumerate(WRONG):
        text = f"from htcgrid import Grid, GridExecutor\n\ngrid = Grid.connect()\n{code}\n"
        (folder / f"wrong{number}.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--no-error-summary", "--cache-dir",
         str(ROOT / ".mypy_cache" / "users"), *map(str, sorted(folder.glob("*.py")))],
        capture_output=True, text=True, check=False, cwd=folder, timeout=110,
    )  # fmt: skip
    assert not done.stderr
    said: dict[str, str] = {}
    for line in done.stdout.splitlines():
        name = Path(line.partition(":")[0]).stem
        said[name] = said.get(name, "") + line + "\n"
    return said


def test_right_code_passes(judged: dict[str, str]) -> None:
    assert judged.get("right", "") == ""


@pytest.mark.parametrize(("number", "code"), list(enumerate(WRONG)), ids=list(WRONG))
def test_wrong_code_does_not(judged: dict[str, str], number: int, code: str) -> None:
    assert re.search(rf"wrong{number}.py:4: error: .*\[({WRONG[code]})\]", judged.get(f"wrong{number}", "")), code
