r"""Text that somebody else wrote, made harmless where it is shown.

A terminal obeys what it reads: escape sequences set its title, move its cursor and fill its clipboard, and marks of
writing direction show another text than the one that is there. What is escaped is decided here, by Unicode's general
categories, for all parts:

| category | characters | shown as |
|---|---|---|
| Cc | control characters: C0 with NUL, ESC and line ends, DEL, C1 | escapes |
| Cf | format characters: marks of direction, zero-width space, byte-order mark, soft hyphen, tags | escapes |
| Cs | halves of surrogate pairs, which no output can encode | escapes |
| Zl, Zp | separators of lines and paragraphs | escapes |
| Cf | zero-width joiner and non-joiner: scripts and emoji need them, and they move nothing | they are |
| Zs | no-break and other spaces: only wide, and usual in numbers and French | they are |
| Co, Cn | private and unassigned characters: a terminal shows a box, or is newer than Python's tables | they are |
"""

import re
import unicodedata
from collections.abc import Callable

_JOINERS = "\u200c\u200d"
_ESCAPED = ("Cc", "Cf", "Cs", "Zl", "Zp")
_ASCII_SAFE = re.compile(r"[ -~]*")


def python_escape(character: str) -> str:
    r"""A character as a literal of Python writes it, such as `\x1b`."""
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def visible(text: str, *, keep: str = "", escape: Callable[[str], str] = python_escape) -> str:
    """A text in which what a terminal does not simply show stands as escapes.

    Args:
        text: What somebody else wrote.
        keep: Characters that stay as they are all the same.
        escape: How a character is written instead.
    """
    if _ASCII_SAFE.fullmatch(text):
        return text
    return "".join(
        escape(character) if _is_escaped(character) and character not in keep else character for character in text
    )


def _is_escaped(character: str) -> bool:
    return unicodedata.category(character) in _ESCAPED and character not in _JOINERS
