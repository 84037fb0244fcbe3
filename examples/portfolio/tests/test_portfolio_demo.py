"""The demo's pieces around the grid: the book and its tasks, the comparison, the report and the stages."""

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from demo import comparison, parse_options, sharing, verdict
from hypothesis import given
from hypothesis import strategies as st
from make_book import DATA, listed_strike, make_book, third_fridays
from option_pricing import Position
from option_request import parse_request
from portfolio_demo.book import TradeRow, read_book, read_market
from portfolio_demo.compare import FIGURES, differences
from portfolio_demo.report import Risk, risk_by_underlying, risk_table, total
from portfolio_demo.stages import percentile, stage_table, stage_times
from portfolio_demo.tasks import event_for, group, positions_of
from rich.console import Console
from rich.table import Table


def trade(trade_id: str, underlying: str = "X") -> TradeRow:
    return TradeRow(
        trade_id=trade_id,
        underlying=underlying,
        option_type="call",
        exercise="european",
        strike=100.0,
        maturity="2027-01-15",
        quantity=100,
    )


def position(trade_id: str, scale: float = 1.0) -> Position:
    return Position(
        trade_id=trade_id,
        value=10.0 * scale,
        delta=0.5 * scale,
        gamma=0.02 * scale,
        vega=30.0 * scale,
        theta=-7.3 * scale,
        rho=40.0 * scale,
    )


# --- the book ---


def test_committed_book_is_what_the_generator_makes() -> None:
    market = json.loads((DATA / "market.json").read_text(encoding="utf-8"))
    assert (DATA / "book.csv").read_bytes() == make_book(market).encode()


def test_committed_book_is_legal_and_varied() -> None:
    book, market = read_book(DATA / "book.csv"), read_market(DATA / "market.json")
    request = parse_request(event_for(book, market))  # raises if a single trade is not legal
    assert len(request.trades) >= 5_000
    assert {t.underlying for t in request.trades} == market["underlyings"].keys()
    assert len({(t.option_type, t.exercise) for t in request.trades}) == 4
    assert {t.quantity > 0 for t in request.trades} == {True, False}


def test_expiries_are_third_fridays_after_the_day() -> None:
    assert third_fridays(date(2026, 1, 16), 3) == [date(2026, 2, 20), date(2026, 3, 20)]
    assert third_fridays(date(2026, 1, 15), 2) == [date(2026, 1, 16), date(2026, 2, 20)]
    assert third_fridays(date(2026, 12, 1), 2) == [date(2026, 12, 18), date(2027, 1, 15)]


@pytest.mark.parametrize(("level", "strike"), [(0.1, 0.5), (24.3, 24.5), (61.4, 61.0), (111.4, 112.5), (418.6, 420.0)])
def test_strikes_are_rounded_to_a_listed_step(level: float, strike: float) -> None:
    assert listed_strike(level) == strike


def test_a_broken_line_of_the_book_is_named(tmp_path: Path) -> None:
    header = "trade_id,underlying,option_type,exercise,strike,maturity,quantity\n"
    path = tmp_path / "book.csv"
    path.write_text(header + "T1,X,call,european,100,2027-01-15,5\nT2,X,put,european,about 90,2027-01-15,5\n")
    with pytest.raises(ValueError, match=r"book\.csv, line 3: .*about 90"):
        read_book(path)
    path.write_text(header + "T1,X,call\n")
    with pytest.raises(ValueError, match=r"book\.csv, line 2"):
        read_book(path)
    path.write_text("trade_id,strike\n")
    with pytest.raises(ValueError, match=r"book\.csv: the columns must be trade_id, underlying"):
        read_book(path)


# --- tasks ---


@given(st.lists(st.integers()), st.integers(1, 50))
def test_groups_are_the_whole_in_order_and_of_even_size(items: list[int], groups: int) -> None:
    slices = group(items, groups)
    assert [item for part in slices for item in part] == items
    assert len(slices) == min(groups, len(items))
    sizes = {len(part) for part in slices}
    assert not sizes or (min(sizes) >= 1 and max(sizes) - min(sizes) <= 1)


def test_no_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        group([1], 0)


def test_an_event_carries_only_the_market_data_it_needs() -> None:
    market = read_market(DATA / "market.json")
    event = event_for([trade("T1", "CEDAR"), trade("T2", "ROWAN")], market)
    assert event["underlyings"] == {name: market["underlyings"][name] for name in ("CEDAR", "ROWAN")}
    assert [row["trade_id"] for row in event["trades"]] == ["T1", "T2"]


def test_positions_are_collected_whatever_the_order_of_the_tasks() -> None:
    positions = positions_of(
        [{"positions": [position("T2")]}, {"positions": [position("T1")]}], [trade("T1"), trade("T2")]
    )
    assert positions == {"T1": position("T1"), "T2": position("T2")}


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (["T1"], "T2 did not come back"),
        (["T1", "T2", "T2"], "T2 came back twice"),
        (["T1", "T2", "T3"], "T3 was never sent"),
    ],
)
def test_a_trade_that_is_lost_doubled_or_unknown_is_named(returned: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        positions_of([{"positions": [position(name)]} for name in returned], [trade("T1"), trade("T2")])


# --- comparison ---


def test_equal_valuations_have_no_difference() -> None:
    assert differences({"T1": position("T1")}, {"T1": position("T1")}) == []


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("corrupt", [lambda value: math.nextafter(value, math.inf), lambda _: math.nan, lambda _: None])
def test_one_corrupted_figure_is_found_and_named_with_both_numbers(
    figure: str, corrupt: Callable[[float], float | None]
) -> None:
    good = {"T1": position("T1"), "T2": position("T2", 2.0)}
    bad = {"T1": position("T1"), "T2": position("T2", 2.0)}
    right: float = bad["T2"][figure]  # type: ignore[literal-required]
    wrong = corrupt(right)
    bad["T2"][figure] = wrong  # type: ignore[literal-required]
    (found,) = differences(bad, good)
    assert str(found) == f"trade T2, {figure}: grid {wrong!r}, in one process {right!r}"


def test_a_trade_that_one_side_lacks_differs_in_every_figure() -> None:
    both, one = {"T1": position("T1"), "T2": position("T2")}, {"T1": position("T1")}
    assert {d.trade_id for d in differences(one, both)} == {d.trade_id for d in differences(both, one)} == {"T2"}
    assert [d.figure for d in differences(one, both)] == list(FIGURES)


def test_a_figure_that_both_sides_lack_is_no_agreement() -> None:
    broken = position("T1")
    del broken["rho"]  # type: ignore[misc]
    assert [d.figure for d in differences({"T1": broken}, {"T1": broken})] == ["rho"]


def test_the_verdict_on_equal_valuations_is_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict({"T1": position("T1")}, {"T1": position("T1")}) == 0
    assert "All 1 trades are exactly equal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("grid", "alone", "said"),
    [
        (10.0, 15.0, "The grid took 10.0 s, one process alone 15.0 s: the grid was 1.50 times as fast."),
        (15.0, 10.0, "The grid took 15.0 s, one process alone 10.0 s: the process alone was 1.50 times as fast."),
        (10.0, 10.01, "The grid took 10.0 s, one process alone 10.0 s: they were equally fast."),
    ],
)
def test_the_comparison_says_who_was_faster(grid: float, alone: float, said: str) -> None:
    assert comparison(grid, alone) == said


def test_what_shares_the_processors_is_said() -> None:
    assert "share 2 processor(s)" in sharing(2)


def test_the_verdict_on_a_difference_is_failure_and_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    good = {f"T{number}": position(f"T{number}") for number in range(10, 30)}
    bad = {name: position(name, 1.5) for name in good}
    assert verdict(bad, good) == 1
    err = capsys.readouterr().err
    assert "FAILED" in err
    assert "trade T10, value: grid 15.0, in one process 10.0" in err
    assert err.endswith("  and 110 more\n")


@pytest.mark.parametrize("groups", ["0", "-1", "many"])
def test_an_illegal_number_of_groups_is_refused(groups: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options([f"--groups={groups}"])
    assert "must be a whole number of at least 1" in capsys.readouterr().err


# --- report ---


def test_risk_is_summed_by_underlying_in_desk_units() -> None:
    market = read_market(DATA / "market.json")
    market["underlyings"] = {
        "X": {"spot": 200.0, "volatility": 0.2, "dividend_yield": 0.0},
        "Y": {"spot": 50.0, "volatility": 0.2, "dividend_yield": 0.0},
    }
    book = [trade("T1", "X"), trade("T2", "Y"), trade("T3", "X")]
    positions = {"T1": position("T1"), "T2": position("T2"), "T3": position("T3", -3.0)}
    x, y = risk_by_underlying(book, positions, market)
    assert (x.name, x.trades, y.name, y.trades) == ("X", 2, "Y", 1)
    assert x.value == pytest.approx(-20.0)
    assert y.value == pytest.approx(10.0)
    assert x.delta == pytest.approx(-1.0 * 200)  # options' delta times spot
    assert y.gamma == pytest.approx(0.02 * 50 * 0.5)  # delta changes by gamma times 0.5 of spot, in currency times 50
    assert y.vega == pytest.approx(0.30)
    assert y.theta == pytest.approx(-0.02)
    assert y.rho == pytest.approx(0.004)
    book_total = total([x, y])
    assert book_total.trades == 3
    assert book_total.value == pytest.approx(-10.0)
    assert book_total.delta == pytest.approx(-200 + 25)


# --- stages ---


@dataclass(frozen=True)
class Stamps:
    submitted_at: int
    queued_at: int
    claimed_at: int
    started_at: int
    finished_at: int
    notified_at: int


def test_stage_times_say_where_the_time_went() -> None:
    times = stage_times([Stamps(1000, 1010, 1050, 1052, 1090, 1100), Stamps(1000, 1030, 1070, 1072, 1170, 1200)])
    assert [t.stage for t in times] == ["queued", "claimed", "started", "finished", "notified"]
    assert [t.mean_ms for t in times] == [20, 40, 2, 68, 20]
    assert [t.median_ms for t in times] == [10, 40, 2, 38, 10]
    assert [t.p95_ms for t in times] == [30, 40, 2, 98, 30]
    assert [t.share for t in times] == pytest.approx([40 / 300, 80 / 300, 4 / 300, 136 / 300, 40 / 300])


def test_a_task_that_has_not_passed_every_stage_is_left_out() -> None:
    whole = Stamps(1000, 1010, 1020, 1030, 1040, 1050)
    assert stage_times([whole, Stamps(1000, 1010, 0, 0, 0, 0)]) == stage_times([whole])
    assert stage_times([Stamps(1000, 0, 0, 0, 0, 0)]) == []


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.95, 4), (1.0, 4)])
def test_percentile_is_a_value_that_occurred(fraction: float, expected: float) -> None:
    assert percentile([1, 2, 3, 4], fraction) == expected


# --- the tables ---


def printed(table: Table) -> str:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_risk_table_shows_a_large_book_whole_on_a_narrow_terminal() -> None:
    text = printed(risk_table([Risk("MAPLE", 9_999, -98_765_432, 87_654_321, -7_654_321, 654_321, -54_321, 4_321)] * 2))
    assert "-98,765,432" in text
    assert "-197,530,864" in text  # the total
    assert "…" not in text


def test_stage_table_shows_every_stage_whole_on_a_narrow_terminal() -> None:
    start = 1_700_000_000_000
    text = printed(
        stage_table(stage_times([Stamps(start, start + 9, start + 99_999, start + 100_000, *[start + 200_000] * 2)]))
    )
    for stage in ("queued", "claimed", "started", "finished", "notified"):
        assert stage in text
    assert "99,990" in text
    assert "…" not in text
