"""A grid in the background: starting one and waiting until it is ready, and stopping one from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import psutil

from htcgrid_local.client_files import remove_client_files
from htcgrid_local.errors import LocalGridError, NoGridError
from htcgrid_local.home import HOME_VARIABLE, Home, already_runs
from htcgrid_local.log_excerpts import failure_reason
from htcgrid_local.private_files import append_private
from htcgrid_local.processes import kill_leftovers
from htcgrid_local.progress import StartupProgress
from htcgrid_local.state import Phase, ProcessId, State, read_state

_STOP_WITHIN: Final = timedelta(seconds=20)


def start(home: Home, options: Sequence[str], progress: StartupProgress) -> None:
    """Start `up` with `options` in the background and return when the grid is ready.

    Raises:
        HomeError: the home cannot be made.
        GridRunningError: a grid already runs in this home.
        LocalGridError: the grid did not come up; the message is the background process's.
    """
    if (running := read_state(home.state)) and running.supervisor.alive:
        raise already_runs(home.root, running.supervisor.pid)
    home.make()
    with append_private(home.log("supervisor")) as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "htcgrid_local", "up", *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {HOME_VARIABLE: str(home.root)},
            start_new_session=True,
        )
    try:
        _wait_until_ready(home, supervisor, progress)
    except KeyboardInterrupt:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()
        raise


def _wait_until_ready(home: Home, supervisor: subprocess.Popen[bytes], progress: StartupProgress) -> None:
    step = ""
    while True:
        ended = supervisor.poll() is not None
        state = read_state(home.state)
        if state is not None and state.supervisor.pid == supervisor.pid:
            if state.phase is Phase.READY:
                progress.end()
                return
            if state.step != step:
                step = state.step
                progress.begin(step)
        if ended:
            error = state.error if state is not None and state.supervisor.pid == supervisor.pid else None
            said = failure_reason(home.log("supervisor")).removeprefix("Error: ")
            raise LocalGridError(error or said or "The grid did not start.")
        time.sleep(0.1)


def reload(home: Home) -> str:
    """Have the agents of the grid in `home` run the function as it is now, and return its digest.

    Raises:
        NoGridError: no grid is ready there, or it ended meanwhile.
        LocalGridError: the function could not be reloaded; the agents run what they ran before.
    """
    before = _ready(home)
    home.reload_request.touch()
    while (state := _ready(home)).reloads == before.reloads:
        time.sleep(0.1)
    if state.reload_error:
        raise LocalGridError(state.reload_error)
    return state.function_digest


def _ready(home: Home) -> State:
    state = read_state(home.state)
    if state is None or state.phase is not Phase.READY or not state.supervisor.alive:
        raise NoGridError(f"No grid is ready in {home.root}.")
    return state


def stop(home: Home) -> str:
    """Stop the grid in `home`, gently or not, clear up what is left of it, and return what happened.

    Raises:
        GridRunningError: another one has been started meanwhile.
    """
    state = read_state(home.state)
    supervisor = home.owner()
    if supervisor is not None:
        _end(supervisor)
    elif state is None:
        return f"No grid runs in {home.root}, and nothing is left of one."
    # Under the lock, so that a grid which somebody starts meanwhile is left alone.
    home.acquire()
    try:
        left = kill_leftovers(latest.children if (latest := read_state(home.state) or state) else ())
        home.state.unlink(missing_ok=True)
        home.clear_scratch()
        remove_client_files(home)
    finally:
        home.release()
    ended = f"ended what was left of it: {', '.join(left)}" if left else "none of its processes was left"
    if supervisor is None:
        return f"No grid runs in {home.root}: one had {_fate(state)}; {ended}, and its files are cleared up."
    return f"The grid is down ({ended})." if left else "The grid is down."


def _end(supervisor: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        process = ProcessId.of("supervisor", supervisor)
        os.kill(supervisor, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_WITHIN.total_seconds()
        while process.alive:
            if time.monotonic() > deadline:
                os.kill(supervisor, signal.SIGKILL)
            time.sleep(0.05)


def _fate(state: State | None) -> str:
    return "failed" if state is not None and state.phase is Phase.FAILED else "been killed"
