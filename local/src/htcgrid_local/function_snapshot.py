"""The function that the agents run: a copy of the user's folder, so that what he edits meanwhile changes no result."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from htcgrid_agent.runtimes.function_digest import NO_CONTENT, function_digest
from htcgrid_local.errors import HandlerError
from htcgrid_local.home import Home


@dataclass(frozen=True)
class Snapshot:
    """A copy of a function, and the digest of its content, by which attempts name it."""

    folder: Path
    digest: str


def take_snapshot(function: Path, home: Home) -> Snapshot:
    """Copy the folder `function` into the home. Links are followed; an earlier copy of the same content is used again.

    Raises:
        HandlerError: a file cannot be read.
    """
    draft = home.functions / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        shutil.copytree(function, draft, ignore=_left_out(home), ignore_dangling_symlinks=True)
        _set_modes(draft)
        digest = function_digest(draft)
    except (OSError, shutil.Error) as error:
        raise HandlerError(f"The function directory {function} cannot be copied: {error}") from error
    folder = home.functions / digest
    if folder.exists():
        shutil.rmtree(draft)
    else:
        draft.rename(folder)
    return Snapshot(folder, digest)


def _set_modes(folder: Path) -> None:
    """Make the copy readable to whom workers run as: users of their own where the grid is root's, else its owner.

    The home around it is closed, so that nobody else comes that far.
    """
    kept = 0o755 if os.geteuid() == 0 else 0o700
    for path in (folder, *folder.rglob("*")):
        runs = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(kept if runs else kept & 0o666)


def _left_out(home: Home) -> Callable[[str, Sequence[str]], set[str]]:
    """Names that are no content of the function, and those that would copy it into itself."""

    def left_out(folder: str, names: Sequence[str]) -> set[str]:
        found = {name: (Path(folder) / name).resolve() for name in names}
        around = {home.root, *Path(folder).resolve().parents, Path(folder).resolve()}
        return {name for name, path in found.items() if name in NO_CONTENT or path in around}

    return left_out
