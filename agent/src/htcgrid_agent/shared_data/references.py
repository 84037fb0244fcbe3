"""Finds references to shared data in the event of a task, and puts paths in their places. Pure.

A reference is the JSON object `{"$data": {…}}` with nothing beside `$data`, anywhere in the event. The rest of the
event stays as it is, byte by byte: other runtimes may read numbers that Python would write in another way.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from htcgrid_events import DataReference

_MARK = b'"$data"'
# In JSON a quote within a string has a backslash before it, and nothing else has.
_KEY = re.compile(r'(?<!\\)"\$data"[ \t\n\r]*:[ \t\n\r]*')
_SPACE = " \t\n\r"
_LONGEST = 4_096
"""Characters: no legal reference is longer."""
_LONG_ONES = 4
_UNKNOWN = 1_000
"""How many longer values of an event are read to tell what they are, and after how many that end nowhere the rest is
left as it is: they may lie in each other, and reading them all would take time that grows with the event's square."""
_DECODER = json.JSONDecoder()


class BadReference(Exception):
    """Raised when an object looks like a reference and is none; the message says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reference stands in the text of an event."""

    start: int
    end: int
    reference: DataReference


@dataclass(frozen=True, slots=True)
class ReferringEvent:
    """An event that holds references."""

    text: str
    places: tuple[Place, ...]

    def with_paths(self, path_of: Callable[[DataReference], str]) -> bytes:
        """The event with a path, as a JSON string, in the place of each reference."""
        parts, end = [], 0
        for place in self.places:
            parts += [self.text[end : place.start], json.dumps(path_of(place.reference))]
            end = place.end
        parts.append(self.text[end:])
        return "".join(parts).encode()


def find_references(event: bytes) -> ReferringEvent | None:
    """The references in an event, or nothing if it holds none. Without the text `"$data"` it is not even decoded.

    Raises:
        BadReference: an object has `$data` as its only key, and its value is no reference.
    """
    if _MARK not in event:
        return None
    try:
        text = event.decode()
    except UnicodeDecodeError:
        return None
    places = tuple(_places(text))
    return ReferringEvent(text, places) if places else None


def _places(text: str) -> list[Place]:
    places: list[Place] = []
    position, unknown = 0, 0
    while unknown < _UNKNOWN and (key := _KEY.search(text, position)):
        position = key.end()
        start = _before(text, key.start())
        if start < 0 or text[start] != "{":
            continue
        found = _value(text[position : position + _LONGEST])
        if found is None and unknown < _LONG_ONES:
            found = _value(text[position:])
            unknown += 1
        if found is None:
            unknown += 1
            continue
        value, length = found
        end = _after(text, position + length)
        if text[end : end + 1] == "}":
            position = end + 1
            places.append(Place(start, position, _reference(value)))
    return places


def _value(text: str) -> tuple[object, int] | None:
    """The JSON value with which a text begins, and its length; nothing if it ends before the value does."""
    try:
        value, length = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    # A number at the end may go on.
    return None if length == len(text) else (value, length)


def _reference(value: object) -> DataReference:
    try:
        return DataReference.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(["$data", *map(str, fault["loc"])])
        why = fault["msg"].removeprefix("Value error, ")
        raise BadReference(f"A reference to shared data is malformed, at {where}: {why}.") from error


def _before(text: str, position: int) -> int:
    """Where the last character before a position is that is no space; -1 if there is none."""
    position -= 1
    while position >= 0 and text[position] in _SPACE:
        position -= 1
    return position


def _after(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position
