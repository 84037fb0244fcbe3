from __future__ import annotations

from pathlib import Path

import pytest

from htcgrid_local.errors import HandlerError
from htcgrid_local.function_snapshot import take_snapshot
from htcgrid_local.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.clear()
    return home


@pytest.fixture
def function(tmp_path: Path) -> Path:
    folder = tmp_path / "function"
    (folder / "package").mkdir(parents=True)
    (folder / "handler.py").write_text("import package\n")
    (folder / "package/__init__.py").write_text("")
    return folder


def test_a_snapshot_is_a_copy_that_edits_do_not_reach(function: Path, home: Home) -> None:
    snapshot = take_snapshot(function, home)
    (function / "handler.py").write_text("changed\n")
    assert (snapshot.folder / "handler.py").read_text() == "import package\n"
    assert (snapshot.folder / "package/__init__.py").exists()
    assert snapshot.folder.name == snapshot.digest
    assert len(snapshot.digest) == 16


def test_the_same_content_is_the_same_snapshot(function: Path, home: Home) -> None:
    first = take_snapshot(function, home)
    (function / "__pycache__").mkdir()
    (function / "__pycache__/handler.pyc").write_text("compiled")
    assert take_snapshot(function, home) == first
    assert [folder.name for folder in home.functions.iterdir()] == [first.digest]


@pytest.mark.parametrize("change", ["content", "name", "mode", "added", "moved"])
def test_every_change_gives_another_digest(function: Path, home: Home, change: str) -> None:
    first = take_snapshot(function, home)
    handler = function / "handler.py"
    match change:
        case "content":
            handler.write_text("import packagf\n")
        case "name":
            handler.rename(function / "handlers.py")
        case "mode":
            handler.chmod(0o755)
        case "added":
            (function / "data.csv").touch()
        case "moved":
            handler.rename(function / "package/handler.py")
    second = take_snapshot(function, home)
    assert second.digest != first.digest
    assert first.folder.exists()


def test_links_are_followed_and_dead_ones_left_out(function: Path, home: Home, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/curves.py").write_text("CURVES = 1\n")
    (function / "shared").symlink_to(tmp_path / "shared")
    (function / "dead").symlink_to(tmp_path / "nowhere")
    snapshot = take_snapshot(function, home)
    (tmp_path / "shared/curves.py").write_text("CURVES = 2\n")
    assert (snapshot.folder / "shared/curves.py").read_text() == "CURVES = 1\n"
    assert take_snapshot(function, home).digest != snapshot.digest


def test_a_folder_that_cannot_be_copied_is_one_sentence(home: Home, tmp_path: Path) -> None:
    with pytest.raises(HandlerError, match=r"^The function directory .* cannot be copied: "):
        take_snapshot(tmp_path / "absent", home)


def test_a_folder_around_the_home_is_not_copied_into_itself(function: Path) -> None:
    home = Home(function / ".htcgrid")
    home.clear()
    assert not (take_snapshot(function, home).folder / ".htcgrid").exists()


def test_links_in_a_circle_end(function: Path, home: Home) -> None:
    (function / "package/up").symlink_to(function)
    (function / "package/here").symlink_to(".")
    assert sorted(path.name for path in (take_snapshot(function, home).folder / "package").iterdir()) == ["__init__.py"]
