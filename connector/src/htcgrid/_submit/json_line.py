"""From a task's event to the line of JSON that travels. These rules hold wherever tasks are checked or sent."""

import json
import re
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from htcgrid._submit.references import references_of
from htcgrid.errors import InvalidTask, PayloadTooLarge
from htcgrid_events import MAX_TASK_BYTES

if TYPE_CHECKING:
    from htcgrid.options import JSON

MAX_TASK_DEPTH = 500
"""Arrays and objects of a task that lie in one another: half of what Python's recursion limit lets a program read, so
that whoever reads the task can."""

_ADVICE = {
    "Decimal": "give float(value) or str(value)",
    "Fraction": "give float(value) or str(value)",
    "complex": "give [value.real, value.imag]",
    "datetime": "give value.isoformat()",
    "date": "give value.isoformat()",
    "time": "give value.isoformat()",
    "Timestamp": "give value.isoformat()",
    "timedelta": "give value.total_seconds()",
    "datetime64": "give str(value), or of an array value.astype(str).tolist()",
    "timedelta64": "give value / numpy.timedelta64(1, 's'), its seconds",
    "NaTType": "give None",
    "NAType": "give None",
    "Series": "give value.tolist()",
    "set": "give sorted(value) or list(value)",
    "frozenset": "give sorted(value) or list(value)",
    "bytes": "give base64.b64encode(value).decode(), or value.decode() if it is a text",
    "DataFrame": "give value.to_dict('records')",
    "UUID": "give str(value)",
    "PosixPath": "give str(value)",
}
"""What to send instead of values of these types."""

_TIMES = "mM"
"""NumPy's letters for its kinds timedelta64 and datetime64."""


def _numpy_values(value: Any) -> Any:
    """NumPy's scalars and arrays as numbers and lists, rows with named fields as objects; whatever else JSON does not
    know is refused."""
    if not (hasattr(value, "tolist") and any(kind.__module__ == "numpy" for kind in type(value).__mro__)):
        raise TypeError
    if value.dtype.names is not None:
        return list(value) if value.shape else {name: value[name] for name in value.dtype.names}
    if value.dtype.kind in _TIMES:  # of nanoseconds, tolist() would give bare integers
        if not value.shape:
            raise TypeError
        return list(value)
    return value.tolist()


_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_numpy_values).encode


def json_line(index: int, task: "JSON") -> bytes:
    """A task's event as it travels.

    Raises:
        InvalidTask: it is not JSON, says where in it and what to give instead; it is nested too deeply; or it refers to
            shared data in a wrong way.
        PayloadTooLarge: it is too large.
    """
    try:
        line = _encode(task).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTask(f"task {index}{_fault(task)}", index=index) from error
    if len(line) > MAX_TASK_BYTES:
        raise PayloadTooLarge(index=index, size=len(line), limit=MAX_TASK_BYTES)
    if line.count(b"[") + line.count(b"{") > MAX_TASK_DEPTH and _depth(line) > MAX_TASK_DEPTH:
        raise InvalidTask(f"task {index} is nested more than {MAX_TASK_DEPTH} deep", index=index)
    references_of(line, index)
    return line


_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
"""A text of JSON. It takes what is no backslash at once: an alternative for each byte takes ten times as long."""


def _depth(line: bytes) -> int:
    """How many arrays and objects of a JSON text lie in one another."""
    deepest = depth = 0
    for mark in re.findall(rb"[\[\]{}]", _STRING.sub(b"", line)):
        depth += 1 if mark in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _fault(task: object) -> str:
    """Where a task is not JSON, why, and what to give instead: the rest of a sentence."""
    for path, value in _leaves(task, "", 0):
        if path is None:
            return f" is nested more than {MAX_TASK_DEPTH} deep, or holds itself"
        why = _why_not(value)
        if why:
            return f" at {path}: {why}" if path else f": {why}"
    return " is not JSON"


def _leaves(value: Any, path: str, depth: int) -> "Iterator[tuple[str | None, object]]":
    """What lies in a task, with its place; the place is None beyond the deepest legal one."""
    if depth > MAX_TASK_DEPTH:
        yield None, value
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int | float | None) or (isinstance(key, float) and not isfinite(key)):
                yield path, _Key(key)
            yield from _leaves(item, f"{path}[{key!r}]", depth + 1)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{path}[{number}]", depth + 1)
    else:
        try:
            plain = _numpy_values(value)
        except TypeError:
            yield path, value
        else:
            if isinstance(plain, list | dict):
                yield from _leaves(plain, path, depth)
            else:
                yield path, plain


class _Key:
    """A key of a mapping that JSON does not have."""

    def __init__(self, key: object) -> None:
        self.name = type(key).__name__


def _why_not(value: object) -> str:
    """Why a value is not JSON, and what to give instead; empty if it is."""
    if isinstance(value, _Key):
        return f"a key of type {value.name}: give keys that are texts"
    if isinstance(value, Mapping) and not isinstance(value, dict):
        return f"{type(value).__name__} is not JSON: give dict(value)"
    try:
        _encode(value)
    except TypeError:
        name = type(value).__name__
        return f"{name} is not JSON: {_ADVICE.get(name, 'give numbers, texts, lists and dicts')}"
    except ValueError as error:
        number = repr(value) if isinstance(value, float) else ""
        return f"{number} is not JSON: give a finite number, or None" if number else str(error)
    return ""
