"""Grids and sessions end tidily, however their user leaves them."""

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from connector.tests.stub_grid import Answer, StubGrid

from htcgrid import Grid, GridClosed, RequestRejected

PROGRAM = """
from htcgrid import Grid
session = Grid.connect().submit([1, 2, 3])
print(session.results(timeout=60))
"""


def htcgrid_threads() -> set[threading.Thread]:
    """The threads of all grids of this process, among them one that other tests may share."""
    return {thread for thread in threading.enumerate() if thread.name == "htcgrid"}


def test_a_session_outlives_its_grids_variable(stub: StubGrid) -> None:
    before = htcgrid_threads()
    session = Grid.connect(stub.profile()).submit([1])
    gc.collect()
    stub.run(session.id, lambda event: event)
    assert session.results(timeout=60) == [1]
    del session
    gc.collect()
    assert htcgrid_threads() <= before


def test_a_closed_grid_says_so(stub: StubGrid) -> None:
    before = htcgrid_threads()
    with Grid.connect(stub.profile()) as grid:
        session = grid.submit([1])
        arriving = session.as_completed()
        stub.run(session.id, lambda event: event)
        next(arriving)
    grid.close()
    assert htcgrid_threads() <= before
    with pytest.raises(GridClosed, match="the grid was closed: connect anew"):
        session.status()
    with pytest.raises(GridClosed):
        grid.submit([1])


def test_closing_wakes_who_waits(stub: StubGrid) -> None:
    grid = Grid.connect(stub.profile())
    session = grid.submit([1])
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            session.results()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is looked at below
            caught.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    stub.wait_for(lambda: stub.connected)
    grid.close()
    waiting.join(60)
    assert isinstance(caught[0], GridClosed)


def test_a_program_that_closes_nothing_ends_quietly(tmp_path: Path) -> None:
    with StubGrid(lambda event: event) as stub:
        environment = {**os.environ, "HTCGRID_PROFILE": str(stub.profile().save(tmp_path / "profile.json"))}
        done = subprocess.run(
            [sys.executable, "-W", "default", "-c", PROGRAM],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1, 2, 3]\n", "")


def test_a_refused_creation_cancels_nobody_elses_session(stub: StubGrid, grid: Grid) -> None:
    running = grid.submit([1])
    stub.fail("PUT /api/sessions", Answer(409, b'{"error":"SessionConflict","message":"It has other options."}'))
    with pytest.raises(RequestRejected, match="It has other options"):
        grid.submit([2], session_id=running.id)
    assert not stub.sessions[running.id].cancelled
