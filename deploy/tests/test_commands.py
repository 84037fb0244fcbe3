"""The program `htcgrid-deploy`, as its users start it."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [str(Path(sys.executable).with_name("htcgrid-deploy"))]


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def test_check_lists_the_partitions(tmp_path: Path) -> None:
    file = tmp_path / "grid_config.json"
    content = {"enable_xray": 1, "partitions": {"large": {"grid_storage_service": "S3+REDIS", "max_htc_agents": 7}}}
    file.write_text(json.dumps(content))
    done = _run("check", file)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines == [
        "enable_xray means nothing here: traces are the template's parameter TracingMode",
        "The grid main in eu-west-1:",
        "PARTITION RUNTIME AGENTS WORKERS STORE FUNCTION",
        "default provided 0 to 100 1 S3 in the image",
        "large provided 0 to 7 1 S3+REDIS in the image",
    ]


def test_the_page_shows_what_the_example_gives() -> None:
    done = _run("check", ROOT / "examples/grid_config.json")
    page = (ROOT / "docs/grid-config.md").read_text(encoding="utf-8")
    assert "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines()) in page


def test_a_wrong_file_is_refused_with_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "grid_config.json"
    file.write_text('{"regoin": "eu-west-1"}')
    done = _run("check", file)
    assert (done.returncode, done.stdout) == (2, "")
    said = f"htcgrid-deploy: {file} describes no grid:\n  regoin: there is no such key; did you mean region?\n"
    assert done.stderr == said
