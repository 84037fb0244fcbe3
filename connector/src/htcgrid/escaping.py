"""How text that somebody else wrote is shown: by `htcgrid_events.escaping`, which says what is escaped and why.

It is loaded only for texts that need it, so that plain ones cost a command nothing.
"""

import json
from typing import Any


def visible(text: str, *, keep: str = "") -> str:
    r"""A text for a terminal, with control characters as escapes, such as `\x1b`. Those of `keep` stay."""
    if text.isascii() and text.isprintable():
        return text
    from htcgrid_events.escaping import visible

    return visible(text, keep=keep)


def lines(text: str) -> list[str]:
    """The lines of a text, each made visible. A tab becomes four spaces."""
    return [visible(line.removesuffix("\r").replace("\t", "    ")) for line in text.strip("\n").split("\n")]


def json_text(value: Any) -> str:
    r"""A value as JSON on one line, with the same characters as escapes that `visible` escapes, so nothing is lost.

    Raises:
        RecursionError: the value is nested more deeply than Python can write.
    """
    from htcgrid_events.escaping import visible

    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return visible(text, escape=lambda character: json.dumps(character)[1:-1])
