"""Commands run in this process, against a stub grid."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from htcgrid.cli import app


@dataclass(frozen=True)
class Run:
    """What a command did."""

    code: int
    out: str
    err: str

    def values(self) -> list[Any]:
        """What it printed, as JSON a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Shell:
    """Runs commands with a profile, in a home of its own."""

    profile: Path | None
    """None to have the commands find one in the home."""
    home: Path

    def run(self, *arguments: str, stdin: str | bytes | None = None) -> Run:
        """Run `htcgrid` with these arguments. Raises what no command should raise."""
        environment = {"HTCGRID_PROFILE": str(self.profile or ""), "HTCGRID_HOME": str(self.home), "COLUMNS": "200"}
        done = CliRunner().invoke(app, arguments, input=stdin, env=environment)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Run(done.exit_code, done.stdout, done.stderr)

    def succeed(self, *arguments: str, stdin: str | bytes | None = None) -> Run:
        """Run a command that must end well."""
        done = self.run(*arguments, stdin=stdin)
        assert done.code == 0, done
        return done

    def without_profile(self) -> "Shell":
        """The same home, in which commands find a profile by themselves."""
        return Shell(None, self.home)

    @property
    def kept(self) -> list[Path]:
        """What is kept of unfinished submissions."""
        return sorted(self.home.glob("submissions/*"))
