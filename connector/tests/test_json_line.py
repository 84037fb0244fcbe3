"""What a task may hold: what NumPy gives is sent as numbers and lists, and anything else is named by its place."""

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest
from connector.tests.stub_grid import StubGrid

from htcgrid import Grid, InvalidTask
from htcgrid._submit.json_line import json_line
from htcgrid._submit.tables import tasks_of

TRADES = numpy.array(
    [("a", 1.5, ([1, 2],)), ("b", -2.0, ([3, 4],))], [("id", "U4"), ("x", "f8"), ("legs", [("n", "i4", 2)])]
)
"""Rows whose fields have names, one of them with fields of its own."""


@pytest.mark.parametrize(
    ("task", "sent"),
    [
        ({"x": numpy.float64(0.1), "n": numpy.int64(7), "ok": numpy.bool_(True)}, {"x": 0.1, "n": 7, "ok": True}),
        (numpy.float32(0.5), 0.5),
        (numpy.arange(3), [0, 1, 2]),
        ([numpy.eye(2), (numpy.str_("a"),)], [[[1.0, 0.0], [0.0, 1.0]], ["a"]]),
        (numpy.array([{"x": 1}, "a"], dtype=object), [{"x": 1}, "a"]),
        (numpy.array([], dtype=float), []),
        (numpy.array([], dtype="M8[ns]"), []),
        (TRADES, [{"id": "a", "x": 1.5, "legs": {"n": [1, 2]}}, {"id": "b", "x": -2.0, "legs": {"n": [3, 4]}}]),
        (TRADES.view(numpy.recarray)[1], {"id": "b", "x": -2.0, "legs": {"n": [3, 4]}}),
        ({"rows": TRADES[["x"]].reshape(1, 2)}, {"rows": [[{"x": 1.5}, {"x": -2.0}]]}),
        (numpy.zeros((), [("x", "i4")]), {"x": 0}),
    ],
)
def test_what_numpy_gives_is_sent_as_plain_values(task: Any, sent: object) -> None:
    assert json.loads(json_line(0, task)) == sent


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"x": Decimal("1.5")}, "task 0 at ['x']: Decimal is not JSON: give float(value) or str(value)"),
        ({"a": [1, {"b": {2}}]}, "task 0 at ['a'][1]['b']: set is not JSON: give sorted(value) or list(value)"),
        ([datetime.date(2026, 1, 1)], "task 0 at [0]: date is not JSON: give value.isoformat()"),
        ({"t": datetime.datetime.now(datetime.UTC)}, "task 0 at ['t']: datetime is not JSON: give value.isoformat()"),
        (
            {"t": numpy.datetime64("2026-01-01")},
            "task 0 at ['t']: datetime64 is not JSON: give str(value), or of an array",
        ),
        (numpy.datetime64(1, "ns"), "task 0: datetime64 is not JSON: give str(value)"),
        (
            {"t": numpy.array([1], "M8[ns]")},
            "task 0 at ['t'][0]: datetime64 is not JSON: give str(value), or of an array",
        ),
        (
            numpy.array([[7]], "m8[ns]"),
            "task 0 at [0][0]: timedelta64 is not JSON: give value / numpy.timed",
        ),
        (numpy.zeros(2, [("a", "i4"), ("t", "M8[s]")]), "task 0 at [0]['t']: datetime64 is not JSON: give str(value)"),
        (numpy.void(b"raw"), "task 0: "),
        ({"f": numpy.add, "d": 1}, "task 0 at ['f']: ufunc is not JSON: give numbers, texts, lists and dicts"),
        ({"d": numpy.dtype("f8")}, "task 0 at ['d']: Float64DType is not JSON: give numbers, texts, lists and dicts"),
        ({"y": float("nan")}, "task 0 at ['y']: nan is not JSON: give a finite number, or None"),
        ({"y": numpy.array([1.0, numpy.inf])}, "task 0 at ['y'][1]: inf is not JSON: give a finite number, or None"),
        ([numpy.float64("nan")], "task 0 at [0]: nan is not JSON: give a finite number, or None"),
        (numpy.complex128(1j), "task 0: complex is not JSON: give [value.real, value.imag]"),
        (numpy.array([Decimal(1)]), "task 0 at [0]: Decimal is not JSON: give float(value) or str(value)"),
        ({"x": b"raw"}, "task 0 at ['x']: bytes is not JSON: give base64.b64encode(value).decode(), or"),
        ({"x": {(1, 2): 3}}, "task 0 at ['x']: a key of type tuple: give keys that are texts"),
        ({"x": {float("nan"): 3}}, "task 0 at ['x']: a key of type float: give keys that are texts"),
        ({"x": object}, "task 0 at ['x']: type is not JSON: give numbers, texts, lists and dicts"),
        ({"x": 10**5000}, "task 0 at ['x']: Exceeds the limit (4300 digits)"),
        (json.loads("[" * 600 + "]" * 600), "task 0 is nested more than 500 deep"),
    ],
)
def test_anything_else_is_named_by_its_place(task: Any, said: str) -> None:
    with pytest.raises(InvalidTask) as told:
        json_line(0, task)
    assert str(told.value).startswith(said)


class DataFrame:
    """Of pandas, as far as it is asked."""

    __module__ = "pandas.core.frame"
    columns = ("x",)

    def __iter__(self) -> Any:
        return iter(self.columns)

    def to_dict(self, orient: str) -> Any:
        assert orient == "records"
        return [{"x": 1}, {"x": 2}]


class GeoDataFrame(DataFrame):
    """A subclass in a library of its own."""

    __module__ = "geopandas"


@pytest.mark.parametrize(
    "table",
    [
        DataFrame(),
        GeoDataFrame(),
        pyarrow.table({"x": [1, 2]}),
        pyarrow.RecordBatch.from_pydict({"x": [1, 2]}),
    ],
    ids=lambda table: type(table).__name__,
)
def test_the_rows_of_a_table_are_tasks(stub: StubGrid, grid: Grid, table: Any) -> None:
    session = grid.submit(table)
    stub.run(session.id, lambda event: event)
    assert session.results(timeout=60) == [{"x": 1}, {"x": 2}]
    with grid.open_session() as fed:
        assert fed.add(table) == range(2)


def test_the_rows_of_an_array_are_tasks() -> None:
    assert [json_line(0, row) for row in tasks_of(numpy.eye(2))] == [b"[1.0,0.0]", b"[0.0,1.0]"]
    rows = [json_line(0, row) for row in tasks_of(TRADES)]
    assert rows[1] == b'{"id":"b","x":-2.0,"legs":{"n":[3,4]}}'


class Columns:
    """A table that nobody here knows."""

    columns = ("x",)

    def __iter__(self) -> Any:
        return iter(self.columns)


def test_a_table_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidTask, match="a Columns would give its columns as tasks: give its rows, as a list of"):
        tasks_of(Columns())


@pytest.mark.parametrize(
    "given", ["text", b"raw", bytearray(b"raw"), memoryview(b"raw"), {"x": 1}, Path(), None, numpy.array(3)]
)
def test_what_is_no_list_is_refused(given: Any) -> None:
    with pytest.raises(InvalidTask, match=f"not one {type(given).__name__}: give one in a list"):
        tasks_of(given)
