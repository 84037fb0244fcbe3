"""A grid in a process that was forked after it was connected: a sentence instead of waiting for a missing thread."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from connector.tests.stub_grid import StubGrid

PROGRAM = """
import os, sys, threading
from htcgrid import Grid, GridClosed, GridExecutor, TaskFuture

grid = Grid.connect()
session = grid.submit([1, 2, 3])
opened = grid.open_session()
executor = GridExecutor(grid, encode=lambda fn, args, kwargs: args[0])
call = executor.submit(str, 4)
future = TaskFuture(session.id, 0, session)  # which nothing settles
locks = [opened._feeding, executor._lock, grid._connection._engine._closing]
held, go_on = threading.Event(), threading.Event()

def hold_every_lock():
    for lock in locks:
        lock.acquire()
    held.set()
    go_on.wait()
    for lock in reversed(locks):
        lock.release()

holder = threading.Thread(target=hold_every_lock)
holder.start()
held.wait()
child = os.fork()
if child == 0:
    uses = {
        "submit": lambda: grid.submit([1]),
        "map": lambda: next(grid.map([1])),
        "attach": lambda: grid.attach(session.id),
        "results": session.results,
        "add": lambda: opened.add([1]),
        "close": opened.close,
        "exit": lambda: opened.__exit__(None, None, None),
        "future": future.result,
        "executor": lambda: executor.submit(str, 5),
        "shutdown": executor.shutdown,
    }
    said = {}
    for name, use in uses.items():
        try:
            said[name] = repr(use())
        except GridClosed as error:
            said[name] = str(error)
    sentence = "the grid was connected before this process was forked: connect anew in this process"
    print({name: text for name, text in said.items() if text != sentence}, flush=True)
    with grid, Grid.connect() as anew:
        print(anew.submit([5]).results(timeout=60), flush=True)
    HOW
go_on.set()
_, status = os.waitpid(child, 0)
holder.join()
print("child", os.waitstatus_to_exitcode(status))
print(session.results(timeout=60), call.result(20))
executor.shutdown()
opened.cancel()
grid.close()
"""


@pytest.mark.parametrize("how", ["sys.exit(3)", "del grid, session, opened, executor, call, future, uses; sys.exit(3)"])
def test_every_use_in_a_forked_process_is_told_to_connect_anew(tmp_path: Path, how: str) -> None:
    with StubGrid(lambda event: event) as stub:
        environment = {**os.environ, "HTCGRID_PROFILE": str(stub.profile().save(tmp_path / "profile.json"))}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.replace("HOW", how)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["{}", "[5]", "child 3", "[1, 2, 3] 4"]


POOL = """
import multiprocessing
from htcgrid import Grid

grid = Grid.connect()

def work(number):
    with Grid.connect() as anew:
        return anew.submit([number]).results(timeout=60)[0]

with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(work, [6, 7]))
"""


def test_a_pool_of_forked_workers_may_each_connect(tmp_path: Path) -> None:
    with StubGrid(lambda event: event) as stub:
        environment = {**os.environ, "HTCGRID_PROFILE": str(stub.profile().save(tmp_path / "profile.json"))}
        done = subprocess.run(
            [sys.executable, "-c", POOL], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[6, 7]\n", "")
