"""Named profiles: where their files lie, and which of them is used when none is named.

The profile `default` is `profile.json` in the home directory, the profile `NAME` is `profiles/NAME.json` there. The
home directory is `$HTCGRID_HOME`, else `~/.htcgrid`.
"""

import os
import re
from pathlib import Path

from htcgrid.errors import ProfileMissing
from htcgrid.private_files import make_folders, write_private

DEFAULT = "default"
"""The name of the profile that is used when no other was chosen."""

LOCAL = "local"
"""The name of the profile that the grid on this machine writes."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def home_directory() -> Path:
    """Where profiles and unfinished submissions are kept."""
    named = os.environ.get("HTCGRID_HOME")
    return Path(named) if named else Path.home() / ".htcgrid"


def is_name(text: str) -> bool:
    """Whether a text names a profile: up to 64 letters, digits, `-` and `_`. Anything else is the path of a file."""
    return _NAME.fullmatch(text) is not None


def path_of(name: str, home: Path | None = None) -> Path:
    """The file of the profile with this name, whether it exists or not."""
    directory = home_directory() if home is None else home
    return directory / "profile.json" if name == DEFAULT else directory / "profiles" / f"{name}.json"


def names(home: Path | None = None) -> list[str]:
    """The names of the profiles that exist, in the order of the alphabet."""
    directory = home_directory() if home is None else home
    found = {file.stem for file in directory.glob("profiles/*.json") if is_name(file.stem)} - {DEFAULT}
    return sorted(found | ({DEFAULT} if path_of(DEFAULT, home).is_file() else set()))


def chosen() -> str | None:
    """The name that was chosen by `choose`, if any."""
    try:
        name = _choice().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return name if is_name(name) else None


def current() -> str:
    """The name of the profile that is used when none is named.

    It is the one that was chosen, else `default`; where that does not exist either, the only one there is.
    """
    found = names()
    return chosen() or (found[0] if len(found) == 1 else DEFAULT)


def choose(name: str) -> None:
    """Use this profile from now on when none is named.

    Raises:
        ProfileMissing: there is no such profile; says which there are.
        OSError: the choice cannot be written.
    """
    if not is_name(name) or not path_of(name).is_file():
        there_are = f"there are {', '.join(names())}" if names() else "there is none yet: write one with `config set`"
        raise ProfileMissing(f"there is no profile {name!r}; {there_are}")
    make_folders(_choice().parent)
    write_private(_choice(), f"{name}\n")


def _choice() -> Path:
    return home_directory() / "current_profile"
