"""The book's value and Greeks by underlying, in the units in which a trading desk speaks of them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from portfolio_demo.book import Market, TradeRow

if TYPE_CHECKING:
    from option_pricing import Position

BASIS_POINTS = 10_000
DAYS_PER_YEAR = 365


@dataclass(frozen=True, slots=True)
class Risk:
    """Figures of a part of the book, all in currency and therefore additive across underlyings."""

    name: str
    trades: int
    value: float
    delta: float
    """Delta times spot: the change in value if spot moved by 100 %, at the present slope."""
    gamma: float
    """The change of `delta` when spot moves by 1 %: gamma times spot squared, over 100."""
    vega: float
    """For one point (0.01) of volatility."""
    theta: float
    """For one calendar day."""
    rho: float
    """For one basis point (0.0001) of rate."""


def risk_by_underlying(book: Sequence[TradeRow], positions: Mapping[str, "Position"], market: Market) -> list[Risk]:
    """Sum the positions of a book by underlying, in the order of the market data."""
    return [
        _sum_up(name, row["spot"], [positions[t["trade_id"]] for t in book if t["underlying"] == name])
        for name, row in market["underlyings"].items()
    ]


def total(rows: Sequence[Risk]) -> Risk:
    """Return the sum of all rows."""
    return Risk(
        name="book",
        trades=sum(row.trades for row in rows),
        value=math.fsum(row.value for row in rows),
        delta=math.fsum(row.delta for row in rows),
        gamma=math.fsum(row.gamma for row in rows),
        vega=math.fsum(row.vega for row in rows),
        theta=math.fsum(row.theta for row in rows),
        rho=math.fsum(row.rho for row in rows),
    )


def risk_table(rows: Sequence[Risk]) -> Table:
    """Lay the rows out with their total."""
    table = Table(title="Value and Greeks of the book, in currency", box=SIMPLE_HEAD, padding=0)
    table.add_column("name", no_wrap=True)
    headings = ("trades", "value", "delta\nx spot", "gamma\n1 % of spot", "vega\n1 point", "theta\n1 day", "rho\n1 bp")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(total(rows)), style="bold")
    return table


def _sum_up(name: str, spot: float, positions: Sequence["Position"]) -> Risk:
    # fsum rounds once, so the sum does not depend on the order in which tasks came back.
    return Risk(
        name=name,
        trades=len(positions),
        value=math.fsum(p["value"] for p in positions),
        delta=math.fsum(p["delta"] for p in positions) * spot,
        gamma=math.fsum(p["gamma"] for p in positions) * spot**2 / 100,
        vega=math.fsum(p["vega"] for p in positions) / 100,
        theta=math.fsum(p["theta"] for p in positions) / DAYS_PER_YEAR,
        rho=math.fsum(p["rho"] for p in positions) / BASIS_POINTS,
    )


def _cells(row: Risk) -> Iterable[str]:
    figures = (row.value, row.delta, row.gamma, row.vega, row.theta, row.rho)
    return (row.name, f"{row.trades:,}", *(f"{figure:,.0f}" for figure in figures))
