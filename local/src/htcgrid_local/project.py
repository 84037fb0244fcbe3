"""The source tree that a local grid deploys, and the tools that `make install` put beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from htcgrid_local.errors import NotInstalledError

_PROJECT_VARIABLE: Final = "HTCGRID_PROJECT"


@dataclass(frozen=True)
class Project:
    """Paths inside one checkout of HTC-Grid."""

    root: Path

    @property
    def template(self) -> Path:
        """The SAM template that is deployed."""
        return self.root / "template.yaml"

    @property
    def sam(self) -> Path:
        """The SAM CLI in its own environment."""
        return self.root / ".tools/sam/bin/sam"

    @property
    def emulator_python(self) -> Path:
        """The interpreter that runs MiniStack and, inside it, the functions."""
        return self.root / ".tools/ministack/bin/python"

    @property
    def build(self) -> Path:
        """Where the local build lies, apart from the one for AWS."""
        return self.root / ".aws-sam/local"

    def check(self) -> None:
        """Make sure that everything a grid needs is there.

        Raises:
            NotInstalledError: a file or a tool is missing; the message says which and what to run.
        """
        if not self.template.is_file():
            raise NotInstalledError(f"{self.template} does not exist: a local grid deploys the project's template.")
        for tool in (self.sam, self.emulator_python):
            if not os.access(tool, os.X_OK):
                raise NotInstalledError(f"{tool} is missing: run `make install` in {self.root}.")


def find_project() -> Project:
    """Find the checkout: $HTCGRID_PROJECT, or the tree that this package was installed from (editable).

    Raises:
        NotInstalledError: neither leads to a checkout.
    """
    if named := os.environ.get(_PROJECT_VARIABLE):
        return Project(Path(named).resolve())
    for folder in (*Path(__file__).resolve().parents, *(Path.cwd() / "_").parents):
        if (folder / "template.yaml").is_file() and (folder / "samconfig.toml").is_file():
            return Project(folder)
    raise NotInstalledError(
        f"No checkout of HTC-Grid found, whose template a local grid deploys: "
        f"run inside one, or name it in ${_PROJECT_VARIABLE}."
    )
