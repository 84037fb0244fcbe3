"""The book of trades and its market data, as they lie in files and as they travel in a task's event."""

import csv
import json
from pathlib import Path
from typing import TypedDict


class TradeRow(TypedDict):
    """One line of the book. `quantity` counts options and is negative for a short position."""

    trade_id: str
    underlying: str
    option_type: str
    exercise: str
    strike: float
    maturity: str
    quantity: int


class UnderlyingRow(TypedDict):
    """The market of one underlying: spot in currency, volatility and dividend yield per year (0.2 means 20 %)."""

    spot: float
    volatility: float
    dividend_yield: float


class Market(TypedDict):
    """The market data of a book. The risk-free rate is per year, continuously compounded."""

    valuation_date: str
    risk_free_rate: float
    underlyings: dict[str, UnderlyingRow]


class Event(Market):
    """What one task gets: trades and the market data that they need."""

    trades: list[TradeRow]


def read_book(path: Path) -> list[TradeRow]:
    """Read a CSV book. Only the shape is checked here: what a legal trade is, the function says."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        if tuple(reader.fieldnames or ()) != tuple(TradeRow.__annotations__):
            raise ValueError(f"{path.name}: the columns must be {', '.join(TradeRow.__annotations__)}")
        rows = []
        for line in reader:
            try:
                rows.append(
                    TradeRow(
                        trade_id=line["trade_id"],
                        underlying=line["underlying"],
                        option_type=line["option_type"],
                        exercise=line["exercise"],
                        strike=float(line["strike"]),
                        maturity=line["maturity"],
                        quantity=int(line["quantity"]),
                    )
                )
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path.name}, line {reader.line_num}: {error}") from error
    return rows


def read_market(path: Path) -> Market:
    """Read market data; the function checks the fields."""
    market: Market = json.loads(path.read_text(encoding="utf-8"))
    return market
