"""The event of one task: trades and the market data they need, checked field by field before anything is priced."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TypeVar

Choice = TypeVar("Choice", bound=StrEnum)

FIRST_DATE = date(1901, 1, 1)
LAST_DATE = date(2199, 12, 31)
"""QuantLib's calendar ends here; a date outside it would be refused deep inside, without the trade's name."""


class InvalidRequestError(ValueError):
    """Raised when an event cannot be priced as it stands; the message names the field and says what is legal."""


class OptionType(StrEnum):
    """The right that the holder has."""

    CALL = "call"
    PUT = "put"


class Exercise(StrEnum):
    """When the holder may exercise: at maturity, or on any day up to it."""

    EUROPEAN = "european"
    AMERICAN = "american"


@dataclass(frozen=True, slots=True)
class Underlying:
    """The market of one underlying: spot in currency, volatility and dividend yield per year (0.2 means 20 %)."""

    spot: float
    volatility: float
    dividend_yield: float


@dataclass(frozen=True, slots=True)
class Trade:
    """A position in one listed option. `quantity` counts options and is negative for a short position."""

    trade_id: str
    underlying: str
    option_type: OptionType
    exercise: Exercise
    strike: float
    maturity: date
    quantity: int


@dataclass(frozen=True, slots=True)
class PricingRequest:
    """A valid event. The risk-free rate is per year, continuously compounded, in the trades' common currency."""

    valuation_date: date
    risk_free_rate: float
    underlyings: Mapping[str, Underlying]
    trades: tuple[Trade, ...]


def parse_request(event: object) -> PricingRequest:
    """Check an event as it came from JSON. Raises `InvalidRequestError` at the first field that is not legal."""
    root = _Fields(event, "event", ("valuation_date", "risk_free_rate", "underlyings", "trades"))
    valuation_date = root.date("valuation_date")
    underlyings = {name: _underlying(value, f"underlyings.{name}") for name, value in root.items("underlyings")}
    trades = tuple(
        _trade(value, f"trades[{index}]", valuation_date, underlyings)
        for index, value in enumerate(root.elements("trades"))
    )
    seen: set[str] = set()
    for index, trade in enumerate(trades):
        if trade.trade_id in seen:
            raise InvalidRequestError(
                f"trades[{index}].trade_id: must be unique in its event, got {trade.trade_id!r} twice"
            )
        seen.add(trade.trade_id)
    return PricingRequest(valuation_date, root.number("risk_free_rate", -0.1, 1.0), underlyings, trades)


def _underlying(value: object, path: str) -> Underlying:
    fields = _Fields(value, path, ("spot", "volatility", "dividend_yield"))
    return Underlying(
        spot=fields.number("spot", 0.001, 1e9),
        volatility=fields.number("volatility", 0.01, 5.0),
        dividend_yield=fields.number("dividend_yield", -0.1, 1.0),
    )


def _trade(value: object, path: str, valuation_date: date, underlyings: Mapping[str, Underlying]) -> Trade:
    fields = _Fields(
        value, path, ("trade_id", "underlying", "option_type", "exercise", "strike", "maturity", "quantity")
    )
    underlying = fields.text("underlying")
    if underlying not in underlyings:
        raise InvalidRequestError(f"{path}.underlying: has no market data in this event, got {underlying!r}")
    maturity = fields.date("maturity")
    if maturity <= valuation_date:
        raise InvalidRequestError(f"{path}.maturity: must be after the valuation date {valuation_date}, got {maturity}")
    return Trade(
        trade_id=fields.text("trade_id"),
        underlying=underlying,
        option_type=fields.choice("option_type", OptionType),
        exercise=fields.choice("exercise", Exercise),
        strike=fields.number("strike", 0.001, 1e9),
        maturity=maturity,
        quantity=fields.quantity("quantity"),
    )


class _Fields:
    """Typed access to one JSON object that has exactly the named fields."""

    def __init__(self, value: object, path: str, names: tuple[str, ...]) -> None:
        if not isinstance(value, dict):
            raise InvalidRequestError(f"{path}: must be an object, got {type(value).__name__}")
        self._values: dict[object, object] = value
        self._prefix = "" if path == "event" else f"{path}."
        for name in names:
            if name not in value:
                raise InvalidRequestError(f"{self._prefix}{name}: is missing")
        # An unknown field is most often a misspelt one, and pricing without it would be silently wrong.
        for name in value:
            if name not in names:
                raise InvalidRequestError(f"{self._prefix}{name}: is not a field; the fields are {', '.join(names)}")

    def _refuse(self, name: str, legal: str) -> InvalidRequestError:
        return InvalidRequestError(f"{self._prefix}{name}: must be {legal}, got {self._values[name]!r}")

    def text(self, name: str) -> str:
        """Return a string that says something."""
        value = self._values[name]
        if not isinstance(value, str) or not value.strip():
            raise self._refuse(name, "a non-empty string")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """Return a finite number within bounds. JSON's true and false are not numbers, though Python's are."""
        value = self._values[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refuse(name, "a number")
        if not (math.isfinite(value) and low <= value <= high):
            raise self._refuse(name, f"between {low:g} and {high:g}")
        return float(value)

    def quantity(self, name: str) -> int:
        """Return a whole number of options; a position of none is a mistake in the book."""
        value = self._values[name]
        if isinstance(value, bool) or not isinstance(value, int) or value == 0:
            raise self._refuse(name, "a whole number other than 0")
        return value

    def date(self, name: str) -> date:
        """Return a calendar date written as in ISO 8601."""
        value = self._values[name]
        try:
            parsed = date.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            parsed = None
        if parsed is None or not FIRST_DATE <= parsed <= LAST_DATE:
            raise self._refuse(name, f"a date YYYY-MM-DD from {FIRST_DATE} to {LAST_DATE}")
        return parsed

    def choice(self, name: str, choices: type[Choice]) -> Choice:
        """Return the member of an enumeration that the field names."""
        value = self._values[name]
        for choice in choices:
            if value == choice.value:
                return choice
        raise self._refuse(name, " or ".join(repr(choice.value) for choice in choices))

    def items(self, name: str) -> list[tuple[str, object]]:
        """Return the entries of an object that is not empty."""
        value = self._values[name]
        if not isinstance(value, dict) or not value:
            raise self._refuse(name, "an object with at least one entry")
        return list(value.items())

    def elements(self, name: str) -> list[object]:
        """Return the elements of a list that is not empty."""
        value = self._values[name]
        if not isinstance(value, list) or not value:
            raise self._refuse(name, "a list with at least one element")
        return value
