"""Fingerprints of failures: equal failures get the same one, so that they can be listed together. Pure functions."""

import hashlib
import re
from collections.abc import Sequence

from htcgrid_events import TaskError

_FRAMES = 5
"""How many frames, from where the error was raised, make a kind of failure: those below are the caller's affair."""
_MAX_MESSAGE = 1_000
"""Characters of a message that count."""

_PYTHON_FRAME = re.compile(r'^\s*File ".*", line \d+')
# Each begins at the edge of a word, so that a long text is gone through once.
_QUOTED_FOLDERS = re.compile(r'(?<=")[^"]*[/\\](?=[^"/\\]*")')
_FOLDERS = re.compile(r"(?<![\w.@~+:-])(?:[A-Za-z]:)?[\w.@~+-]*[/\\](?:[^\s/\\\"'()]*[/\\])*")
_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]+")
_DIGEST = re.compile(r"\b(?=[0-9a-fA-F-]*\d)[0-9a-fA-F-]{8,}\b")
_NUMBER = re.compile(r"\d+")


_ALIKE = ((_ADDRESS, "0x"), (_QUOTED_FOLDERS, ""), (_FOLDERS, ""), (_DIGEST, "0"), (_NUMBER, "0"))


def fingerprint(error: TaskError) -> str:
    """16 hexadecimal digits: equal for failures of one type whose topmost frames are alike but for numbers, addresses
    and folders. Only of an error without a trace does the message count, alike in the same way."""
    where = _topmost(error.trace) or [error.message[:_MAX_MESSAGE]]
    basis = "\n".join([error.kind, error.type, *map(_normalised, where)])
    return hashlib.sha256(basis.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _topmost(trace: Sequence[str]) -> list[str]:
    lines = [line.strip() for entry in trace for line in entry.splitlines() if line.strip()]
    # Python writes the frame that raised last, and a line of source below each; others write it first.
    frames = [line for line in lines if _PYTHON_FRAME.match(line)]
    return frames[-_FRAMES:] if frames else lines[:_FRAMES]


def _normalised(text: str) -> str:
    for pattern, same in _ALIKE:
        text = pattern.sub(same, text)
    return text
