"""The examples of docs/connector.md run as they stand."""

import re
from pathlib import Path

import pytest
from connector.tests.stub_grid import Failing, StubGrid

TOUR = Path(__file__).resolve().parents[2] / "docs" / "connector.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def square(event: object) -> object:
    assert isinstance(event, dict)
    if event["x"] < 0:
        raise Failing(f"{event['x']} is negative")
    return event["x"] ** 2


def test_the_tour_can_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("curves.parquet").write_bytes(b"the curves")
    text = TOUR.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    with StubGrid(square) as stub:
        monkeypatch.setenv("HTCGRID_PROFILE", str(stub.profile().save(tmp_path / "profile.json")))
        for example in EXAMPLE.finditer(text):
            first_line = text.count("\n", 0, example.start(1))
            code = compile("\n" * first_line + example.group(1), str(TOUR), "exec")
            exec(code, names)  # noqa: S102 - our own examples
    told = capsys.readouterr()
    assert "failed after 3 attempts" in told.out
    assert "1,000 of 1,000 tasks (100%)" in told.err
    assert len(EXAMPLE.findall(text)) == text.count("```python") > 0
