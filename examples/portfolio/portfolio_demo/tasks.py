"""From a book to the events of a session's tasks, and from their results back to one position per trade."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from portfolio_demo.book import Event, Market, TradeRow

if TYPE_CHECKING:
    from handler import PricingResult
    from option_pricing import Position

Item = TypeVar("Item")


def group(items: Sequence[Item], groups: int) -> list[Sequence[Item]]:
    """Cut into that many slices, in order, whose lengths differ by at most one; never into empty ones."""
    if groups < 1:
        raise ValueError(f"groups must be at least 1, got {groups}")
    groups = min(groups, len(items))
    bounds = [index * len(items) // groups for index in range(groups + 1)] if groups else [0]
    return [items[start:end] for start, end in pairwise(bounds)]


def event_for(trades: Sequence[TradeRow], market: Market) -> Event:
    """Return the event that prices these trades, with the market data of their underlyings and no others."""
    needed = {trade["underlying"] for trade in trades}
    return Event(
        valuation_date=market["valuation_date"],
        risk_free_rate=market["risk_free_rate"],
        underlyings={name: row for name, row in market["underlyings"].items() if name in needed},
        trades=list(trades),
    )


def positions_of(results: Iterable["PricingResult"], trades: Sequence[TradeRow]) -> dict[str, "Position"]:
    """Collect the positions of all tasks by trade id: exactly one for each trade, or a `ValueError` that names one."""
    positions: dict[str, Position] = {}
    for result in results:
        for position in result["positions"]:
            if position["trade_id"] in positions:
                raise ValueError(f"trade {position['trade_id']} came back twice")
            positions[position["trade_id"]] = position
    expected = {trade["trade_id"] for trade in trades}
    for trade_id in sorted(expected ^ positions.keys()):
        raise ValueError(f"trade {trade_id} {'did not come back' if trade_id in expected else 'was never sent'}")
    return positions
