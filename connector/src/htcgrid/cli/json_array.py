"""The elements of a JSON array, read bit by bit, so that an array of any length takes little memory."""

import codecs
import json
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from typing import Any

_READ_BYTES = 64 * 1024
_LOOK_AHEAD = 16
"""Characters after which a number, a word such as `false` or an escape is surely whole."""

_SPACES = " \t\r\n"


class NotAnArray(ValueError):
    """Raised where the text is not that of a JSON array; says why, and on which `line`, from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def elements(
    file: BufferedIOBase, max_bytes: int, *, parse_constant: Callable[[str], Any] | None = None
) -> Iterator[tuple[int, Any]]:
    """The elements, each with the number of the line on which it ends.

    Args:
        file: What holds the array, in UTF-8.
        max_bytes: About how much of the text is held in memory at most, which bounds an element.
        parse_constant: See `json.loads`.

    Raises:
        NotAnArray: the text is not UTF-8 or not a JSON array, or an element is too long.
    """
    text = _Text(file, max_bytes)
    decoder = json.JSONDecoder(parse_constant=parse_constant)
    if text.next_mark() != "[":
        raise text.error("it does not begin with '['")
    text.skip(1)
    if text.next_mark() == "]":
        text.skip(1)
    else:
        while True:
            yield text.value(decoder)
            mark = text.next_mark()
            text.skip(1)
            if mark == "]":
                break
            if mark != ",":
                raise text.error("a comma or ']' is missing after an element" if mark else "it ends without ']'")
    if text.next_mark():
        raise text.error("something follows its ']'")


class _Text:
    """The part of the text that is in memory, and where the next element begins in it."""

    def __init__(self, file: BufferedIOBase, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._held = ""
        self._at = 0
        self._line = 1
        self._ended = False

    def error(self, message: str) -> NotAnArray:
        """What is wrong at the present place."""
        return NotAnArray(message, self._line)

    def next_mark(self) -> str:
        """The next character that is no space, which stays to be read; nothing at the end of the text."""
        while True:
            while self._at < len(self._held):
                if self._held[self._at] not in _SPACES:
                    return self._held[self._at]
                self.skip(1)
            if self._ended:
                return ""
            self._read_more(_READ_BYTES)

    def skip(self, characters: int) -> None:
        """Pass over what was read."""
        self._line += self._held.count("\n", self._at, self._at + characters)
        self._at += characters

    def value(self, decoder: json.JSONDecoder) -> tuple[int, Any]:
        """The value that begins here. Reads twice as much each time until it is whole: the cost stays linear."""
        if not self.next_mark():
            raise self.error("it ends without ']'")
        size = _READ_BYTES
        while True:
            try:
                value, end = decoder.raw_decode(self._held, self._at)
            except json.JSONDecodeError as error:
                if self._ended or not self._may_go_on(error):
                    self.skip(error.pos - self._at)
                    raise self.error(error.msg) from error
            except RecursionError as error:
                raise self.error("it is nested too deeply") from error
            except ValueError as error:
                raise self.error(str(error)) from error
            else:
                if self._ended or end + _LOOK_AHEAD <= len(self._held):
                    self.skip(end - self._at)
                    return self._line, value
            if len(self._held) - self._at > self._max_bytes:
                raise self.error(f"an element is longer than {self._max_bytes:,} bytes, the most that is read")
            self._read_more(size)
            size *= 2

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether the value is cut off rather than wrong."""
        return error.msg.startswith("Unterminated string") or error.pos + _LOOK_AHEAD > len(self._held)

    def _read_more(self, size: int) -> None:
        data = self._file.read1(size)
        self._ended = not data
        try:
            more = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise self.error(f"it is not UTF-8: {error.reason}") from error
        self._held = self._held[self._at :] + more
        self._at = 0
