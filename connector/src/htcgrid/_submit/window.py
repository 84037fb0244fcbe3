"""How far a lazy submission runs ahead of its reader."""

from htcgrid.errors import InvalidOption

CHUNKS_IN_WINDOW = 16
"""A window holds so many chunks at least, so that workers have something to do while results are taken."""

REFILL = 4
"""A window is filled again when a quarter of it is free: often enough, and in chunks of some size."""


def check_buffersize(size: int) -> None:
    """Raises `InvalidOption` for what is no number of tasks."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InvalidOption(f"buffersize={size!r} is not legal: give a whole number of tasks from 1 up")
