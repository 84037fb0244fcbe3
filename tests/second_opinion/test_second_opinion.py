"""The rules of the second opinion: nothing is left out or expected to fail without a name that holds."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.second_opinion import differences, plugin, tools
from tests.second_opinion.differences import DIFFERENCES, Difference, Server, difference_of
from tests.second_opinion.selection import RUNTIMES
from tests.second_opinion.servers import ROOT


def test_a_difference_that_names_a_test_that_is_gone_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = ("tests/second_opinion/test_second_opinion.py::test_that_was_renamed", "tests/no_such_file.py::test_any")
    difference = Difference("any", (Server.DYNOXIDE,), "why", "what", (*gone, *DIFFERENCES[-1].tests))
    monkeypatch.setattr(differences, "DIFFERENCES", (difference,))
    nothing: Any = None
    with pytest.raises(pytest.UsageError) as caught:
        plugin.pytest_collection_modifyitems(nothing, [])
    assert all(test in str(caught.value) for test in gone)
    assert DIFFERENCES[-1].tests[0] not in str(caught.value)


def test_a_test_is_expected_to_fail_on_the_server_that_differs_alone() -> None:
    test = "tests/second_opinion/test_refusals.py::test_a_statement_of_more_than_8_kb_is_refused"
    difference = difference_of(test, differences.EMBEDDED)
    assert difference is not None
    assert difference.name == "statements-of-any-length"
    assert difference_of(test, differences.SECOND_OPINION) is None


def test_a_rule_names_files_that_exist() -> None:
    assert [name for name in RUNTIMES if not (ROOT / name).is_file()] == []


def test_names_of_differences_are_distinct() -> None:
    names = [difference.name for difference in DIFFERENCES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ("cargo 1.63.0", "cargo 1.88 or newer (this one is 1.63.0)"),
        ("cargo 1.88.0 (873a06493 2025-05-10)", None),
        ("cargo 2.0", None),
        ("no version", "cargo 1.88 or newer (this one is of no known version)"),
    ],
)
def test_a_tool_that_is_too_old_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, missing: str | None
) -> None:
    program = tmp_path / "cargo"
    program.write_text(f"#!{sys.executable}\nprint({said!r})\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    cargo = next(tool for tool in tools.TOOLS if tool.name == "cargo")
    assert cargo.missing == missing


def test_what_is_missing_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.main() == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Java 17 or newer, Maven, cargo 1.88 or newer" in said
