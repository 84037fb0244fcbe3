"""Text that somebody else wrote, made harmless where it is shown.

A handler chooses its results and error messages, and a terminal obeys what it reads: escape sequences set its title,
move its cursor and fill its clipboard, and marks of writing direction show a text other than it is. So whatever comes
from the grid passes through `visible` on its way to a terminal, and through `json_text` where it is printed as JSON.
"""

import json
import re
import unicodedata
from typing import Any

_JOINERS = "\u200c\u200d"
"""Format characters that scripts and emoji need, and that move nothing."""

_ASCII_SAFE = re.compile(r"[ -~]*")


def visible(text: str, *, keep: str = "") -> str:
    r"""The text with its control characters as escapes, such as `\x1b`: those of ASCII and C1, line ends, marks of
    writing direction and other invisible format characters, and halves of surrogate pairs. Those of `keep` stay."""
    if _ASCII_SAFE.fullmatch(text):
        return text
    return "".join(
        character if character in keep or not _moves(character) else _escape(character) for character in text
    )


def lines(text: str) -> list[str]:
    """The lines of a text, each made visible. A tab becomes four spaces."""
    return [visible(line.removesuffix("\r").replace("\t", "    ")) for line in text.strip("\n").split("\n")]


def json_text(value: Any) -> str:
    r"""A value as JSON on one line, with the same characters as escapes that `visible` escapes, so nothing is lost.

    Raises:
        RecursionError: the value is nested more deeply than Python can write.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    if _ASCII_SAFE.fullmatch(text):
        return text
    return "".join(json.dumps(character)[1:-1] if _moves(character) else character for character in text)


def _moves(character: str) -> bool:
    """Whether a terminal may do something else with this character than show it."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
