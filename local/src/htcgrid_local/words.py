"""What a program's log says about why it failed."""

from __future__ import annotations

from pathlib import Path


def first_error(log: Path) -> str:
    """The first line of `log` that speaks of an error, else its last line with text, else nothing."""
    if not log.is_file():
        return ""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return next((line for line in lines if "error:" in line.lower()), last)
