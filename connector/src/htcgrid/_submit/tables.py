"""What a user gives as tasks: an iterable of events, or a table of which each row is one."""

from collections.abc import Iterable, Mapping
from typing import Any

from htcgrid.errors import InvalidTask
from htcgrid.options import JSON

_ROWS = {
    ("pandas", "DataFrame"): lambda table: table.to_dict("records"),
    ("polars", "DataFrame"): lambda table: table.to_dicts(),
    ("pyarrow", "Table"): lambda table: table.to_pylist(),
    ("pyarrow", "RecordBatch"): lambda table: table.to_pylist(),
}
"""How tables give their rows, by their library and type, so that none of these libraries is needed."""


def tasks_of(given: Iterable[JSON]) -> Iterable[JSON]:
    """The tasks, of a table its rows as dicts. What can be iterated over but was surely meant otherwise is refused.

    Raises:
        InvalidTask: it is a text, bytes, a mapping, a table of another kind, or nothing iterable.
    """
    table: Any = given
    for kind in type(given).__mro__:
        rows = _ROWS.get((kind.__module__.partition(".")[0], kind.__name__))
        if rows is not None:
            found: list[JSON] = rows(table)
            return found
    if hasattr(table, "columns"):
        raise InvalidTask(
            f"a {type(given).__name__} would give its columns as tasks: give its rows, as a list of dicts"
        )
    one = isinstance(given, str | bytes | bytearray | memoryview | Mapping) or not isinstance(given, Iterable)
    if one or getattr(given, "shape", None) == ():  # an array of no dimension, which cannot be iterated over
        name = type(given).__name__
        raise InvalidTask(f"tasks must be a list or an iterable of JSON values, not one {name}: give one in a list")
    return given
