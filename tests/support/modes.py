"""Which files and folders of a home somebody else than their owner may read."""

from pathlib import Path


def open_to_others(home: Path) -> dict[str, str]:
    """Modes other than 600 and 700, by the path in the home.

    What lies in snapshots of functions and of shared data is readable to the users of workers, where a grid is root's;
    the folders around them are closed.
    """
    closed = {home / "local/functions", home / "local/shared-data"}
    found = {path: path.lstat().st_mode & 0o777 for path in (home, *home.rglob("*")) if closed.isdisjoint(path.parents)}
    return {str(path.relative_to(home)): oct(mode) for path, mode in found.items() if mode not in (0o600, 0o700)}
