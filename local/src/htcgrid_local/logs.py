"""The logs of a grid: one file per process."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from htcgrid_local.errors import NoGridError
from htcgrid_local.home import Home
from htcgrid_local.private_files import append_private


def record(home: Home) -> None:
    """Write what the supervisor itself has to say into its log, and warnings on the terminal too."""
    home.make()
    append_private(home.log("supervisor")).close()
    file = logging.FileHandler(home.log("supervisor"), encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("htcgrid_local")
    logger.setLevel(logging.INFO)
    logger.addHandler(file)


def select(home: Home, names: Sequence[str]) -> list[Path]:
    """The log files of the named processes ("agent" stands for all agents), or all of them.

    Raises:
        NoGridError: there is no such log.
    """
    files = sorted(home.logs.glob("*.log"))
    if not files:
        raise NoGridError(f"There are no logs in {home.logs}: no grid has run in this home.")
    known = [file.stem for file in files]
    for name in names:
        if not any(_matches(stem, name) for stem in known):
            raise NoGridError(f"There is no log '{name}'; there are: {', '.join(known)}.")
    return [file for file in files if not names or any(_matches(file.stem, name) for name in names)]


def read(files: Sequence[Path], *, follow: bool) -> Iterator[str]:
    """The lines of `files`, each led by its process's name when there are several.

    With `follow` it waits for those to come, and never ends by itself.
    """
    width = max(len(file.stem) for file in files)
    offsets = dict.fromkeys(files, 0)
    while True:
        for file in files:
            lead = f"{file.stem:<{width}} | " if len(files) > 1 else ""
            with file.open("rb") as stream:
                stream.seek(offsets[file])
                data = stream.read()
            # A line that is still being written waits for its end, unless nobody will wait for it.
            whole = data[: data.rfind(b"\n") + 1] if follow else data
            offsets[file] += len(whole)
            for line in whole.decode("utf-8", errors="replace").splitlines():
                yield lead + line
        if not follow:
            return
        time.sleep(0.2)


def _matches(stem: str, name: str) -> bool:
    return stem == name or stem.startswith(f"{name}-")
