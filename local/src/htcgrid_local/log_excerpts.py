"""The lines of a program's log that say why it failed."""

from __future__ import annotations

from pathlib import Path


def first_error(log: Path) -> str:
    """The first line of `log` that names an error, or nothing."""
    return next((line for line in _lines(log) if "error:" in line.lower()), "")


def failure_reason(log: Path) -> str:
    """The first line of `log` that names an error, else its last line with text, else nothing."""
    return first_error(log) or last_line(log)


def last_line(log: Path) -> str:
    """The last line of `log` with text, where a program says why it gave up."""
    return next(reversed(_lines(log)), "")


def _lines(log: Path) -> list[str]:
    if not log.is_file():
        return []
    return [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
