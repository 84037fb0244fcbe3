"""Make the example's book of option trades: `data/book.csv`, the same bytes on every run and every machine.

The names and prices are invented. Strikes and maturities lie as on a listed market: rounded strikes around the spot,
further out the longer the maturity, and expiries on third Fridays, most of them near.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import TypeVar

DATA = Path(__file__).parent / "data"
SEED = 20260120
TRADES = 6_000
AMERICAN_SHARE = 0.5
EXPIRIES = 24
"""Months with an expiry, counted from the one of the valuation date."""
COLUMNS = ("trade_id", "underlying", "option_type", "exercise", "strike", "maturity", "quantity")

Item = TypeVar("Item")


def main() -> None:
    """Write the book beside its market data."""
    market = json.loads((DATA / "market.json").read_text(encoding="utf-8"))
    (DATA / "book.csv").write_text(make_book(market), encoding="utf-8", newline="")


def make_book(market: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return the book as CSV: trades in random order, so that equal slices of it are about equal work."""
    # Of Python's generator only random() is promised to stay the same between versions, so nothing else is used.
    random = Random(SEED).random
    valuation_date = date.fromisoformat(str(market["valuation_date"]))
    maturities = third_fridays(valuation_date, EXPIRIES)
    underlyings = market["underlyings"]
    names = sorted(underlyings)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number in range(1, TRADES + 1):
        name = _pick(names, random())
        # The square of a uniform number is small more often than not: most trades are in the near expiries.
        maturity = _pick(maturities, random() ** 2)
        # The sum of three uniform numbers less its mean is bell-shaped, within 1.5.
        deviations = random() + random() + random() - 1.5
        years = (maturity - valuation_date).days / 365
        spot, volatility = underlyings[name]["spot"], underlyings[name]["volatility"]
        strike = listed_strike(spot * math.exp(deviations * volatility * math.sqrt(years)))
        contracts = (1 + int(random() ** 2 * 50)) * (1 if random() < 0.55 else -1)
        writer.writerow(
            (
                f"T{number:05d}",
                name,
                _pick(("call", "put"), random()),
                "american" if random() < AMERICAN_SHARE else "european",
                strike,
                maturity.isoformat(),
                100 * contracts,  # a listed contract is on 100 shares
            )
        )
    return text.getvalue()


def third_fridays(after: date, months: int) -> list[date]:
    """Return the monthly expiries after a day: third Fridays of that many months, without regard to holidays."""
    days = []
    for index in range(months):
        year, month = divmod(after.year * 12 + after.month - 1 + index, 12)
        first = date(year, month + 1, 1)
        friday = first + timedelta(days=(4 - first.weekday()) % 7 + 14)
        if friday > after:
            days.append(friday)
    return days


def listed_strike(level: float) -> float:
    """Round a level to a strike that could be listed: in steps of 0.5 below 25, 1 below 75, 2.5 below 200, else 5."""
    step = 0.5 if level < 25 else 1.0 if level < 75 else 2.5 if level < 200 else 5.0
    return max(step, round(level / step) * step)


def _pick(items: Sequence[Item], uniform: float) -> Item:
    return items[int(uniform * len(items))]


if __name__ == "__main__":
    main()
