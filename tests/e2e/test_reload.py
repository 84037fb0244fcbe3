"""A function that is edited while a session is open."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from htcgrid import Grid, TaskFailed
from htcgrid_local import LocalGrid

pytestmark = [pytest.mark.grid, pytest.mark.timeout(240)]


def write(function: Path, version: int) -> None:
    code = f"def handler(event, context):\n    if event == 'fail':\n        raise ValueError\n    return {version}\n"
    (function / "handler.py").write_text(code)


def test_a_session_on_two_versions_of_the_function_says_so(tmp_path: Path) -> None:
    function = tmp_path / "function"
    function.mkdir()
    write(function, 1)
    with LocalGrid(tmp_path / "home", function=function, workers=1) as local, Grid.connect(local.profile) as grid:
        with grid.open_session(max_retries=0) as session:
            session.add(["first", "fail"])
            assert next(session.iter_results(timeout=60)) == 1
            write(function, 2)
            session.add(["second"])
            assert session.futures()[2].result(timeout=60) == 1
            second = local.reload()
            session.add(["third"])
            assert session.futures()[3].result(timeout=60) == 2
        status = session.wait(timeout=60)
        (first,) = set(status.function_digests) - {second}
        assert len(status.function_digests) == 2
        failed = session.results(return_exceptions=True)[1]
        assert isinstance(failed, TaskFailed)
        record = session.task(1)
        assert record.error is not None
        assert record.error.function_digest == first
        assert session.task(3).function_digests == (second,)
        said = _status(local, tmp_path, session.id)
        assert f"2 versions, so results are of different code: {', '.join(status.function_digests)}" in said


def _status(local: LocalGrid, folder: Path, session_id: str) -> str:
    profile = local.profile.save(folder / "profile.json")
    command = [sys.executable, "-c", "from htcgrid.cli import main; main()", "status", session_id]
    done = subprocess.run([*command, "--profile", str(profile)], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(profile.read_text())["username"] == "local"
    return done.stdout
