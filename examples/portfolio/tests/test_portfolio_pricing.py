"""What must be true of the function's figures, whatever library computes them."""

import math
import random
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from option_pricing import Position, price
from option_request import Exercise, OptionType, PricingRequest, Trade, Underlying

TODAY = date(2026, 1, 20)
CALL, PUT = OptionType.CALL, OptionType.PUT
EUROPEAN, AMERICAN = Exercise.EUROPEAN, Exercise.AMERICAN


def option(
    option_type: OptionType, exercise: Exercise, strike: float, days: int, quantity: int = 1, trade_id: str = "T"
) -> Trade:
    return Trade(trade_id, "X", option_type, exercise, strike, TODAY + timedelta(days=days), quantity)


def figures(trade: Trade, spot: float, volatility: float, rate: float, dividend_yield: float = 0.0) -> Position:
    (position,) = price(PricingRequest(TODAY, rate, {"X": Underlying(spot, volatility, dividend_yield)}, (trade,)))
    return position


@pytest.mark.parametrize(
    ("spot", "volatility", "expected"),
    [(36, 0.2, 3.844), (36, 0.4, 6.711), (40, 0.2, 2.066), (40, 0.4, 5.060), (44, 0.2, 1.017), (44, 0.4, 3.783)],
)
def test_european_put_has_the_published_value(spot: float, volatility: float, expected: float) -> None:
    # F. A. Longstaff, E. S. Schwartz, "Valuing American Options by Simulation", RFS 14 (2001), table 1,
    # column "Closed form European": strike 40, rate 6 %, one year.
    assert figures(option(PUT, EUROPEAN, 40, 365), spot, volatility, 0.06)["value"] == pytest.approx(expected, abs=6e-4)


def test_european_greeks_are_those_of_the_textbook() -> None:
    # J. C. Hull, "Options, Futures, and Other Derivatives", the running example of the chapter on the Greek letters:
    # spot 49, strike 50, rate 5 %, volatility 20 %, 20 weeks. The book takes 20/52 of a year, 0.3 % more than 140/365.
    position = figures(option(CALL, EUROPEAN, 50, 140), 49, 0.2, 0.05)
    assert position["value"] == pytest.approx(2.40, rel=4e-3)
    assert position["delta"] == pytest.approx(0.522, rel=4e-3)
    assert position["gamma"] == pytest.approx(0.066, rel=8e-3)
    assert position["vega"] == pytest.approx(12.1, rel=4e-3)
    assert position["theta"] == pytest.approx(-4.31, rel=4e-3)
    assert position["rho"] == pytest.approx(8.91, rel=4e-3)


@pytest.mark.parametrize(
    ("spot", "volatility", "expected"),
    [
        (90, 0.2, 5.182),
        (100, 0.2, 9.065),
        (120, 0.2, 21.398),
        (90, 0.4, 15.711),
        (100, 0.4, 20.760),
        (120, 0.4, 32.709),
    ],
)
def test_american_call_with_dividends_has_the_published_value(spot: float, volatility: float, expected: float) -> None:
    # N. Ju, "An Approximate Formula for Pricing American Options", Journal of Derivatives 7 (1999), exhibit 6:
    # strike 100, rate 3 %, dividend yield 7 %, three years. The formula itself is good to about 0.3 % here,
    # and so is our grid.
    value = figures(option(CALL, AMERICAN, 100, 3 * 365), spot, volatility, 0.03, 0.07)["value"]
    assert value == pytest.approx(expected, rel=6e-3)


market_strategy = {
    "moneyness": st.floats(0.7, 1.4),
    "days": st.integers(10, 900),
    "volatility": st.floats(0.1, 0.6),
    "rate": st.floats(0.0, 0.1),
    "dividend_yield": st.floats(0.0, 0.08),
}


@given(**market_strategy)
def test_european_calls_and_puts_are_at_parity(
    moneyness: float, days: int, volatility: float, rate: float, dividend_yield: float
) -> None:
    # H. R. Stoll, "The Relationship Between Put and Call Option Prices", Journal of Finance 24 (1969):
    # C - P = S exp(-q t) - K exp(-r t), and so for every derivative of it.
    spot, strike, years = 100.0, 100 * moneyness, days / 365
    call, put = (
        figures(option(kind, EUROPEAN, strike, days), spot, volatility, rate, dividend_yield) for kind in (CALL, PUT)
    )
    forward, discounted = spot * math.exp(-dividend_yield * years), strike * math.exp(-rate * years)
    assert call["value"] - put["value"] == pytest.approx(forward - discounted, abs=1e-9)
    assert call["delta"] - put["delta"] == pytest.approx(forward / spot, abs=1e-9)
    assert call["gamma"] == pytest.approx(put["gamma"], abs=1e-9)
    assert call["vega"] == pytest.approx(put["vega"], abs=1e-9)
    assert call["theta"] - put["theta"] == pytest.approx(dividend_yield * forward - rate * discounted, abs=1e-9)
    assert call["rho"] - put["rho"] == pytest.approx(years * discounted, abs=1e-9)


@settings(max_examples=50)
@given(kind=st.sampled_from(OptionType), **market_strategy)
def test_early_exercise_is_never_worth_less_than_nothing(
    kind: OptionType, moneyness: float, days: int, volatility: float, rate: float, dividend_yield: float
) -> None:
    spot, strike = 100.0, 100 * moneyness
    american, european = (
        figures(option(kind, exercise, strike, days), spot, volatility, rate, dividend_yield)["value"]
        for exercise in (AMERICAN, EUROPEAN)
    )
    intrinsic = max(spot - strike if kind is CALL else strike - spot, 0.0)
    assert american >= max(european, intrinsic) - 5e-4 * spot  # the error of the finite-difference grid


@pytest.mark.parametrize("strike", [85.0, 100.0, 115.0])
@pytest.mark.parametrize("days", [30, 365])
def test_american_call_without_dividends_is_the_european_one(strike: float, days: int) -> None:
    # R. C. Merton (1973): without dividends, early exercise of a call never pays. So the closed form checks every
    # Greek of the finite-difference solution, bumped ones too.
    american, european = (
        figures(option(CALL, exercise, strike, days), 100, 0.25, 0.04) for exercise in (AMERICAN, EUROPEAN)
    )
    assert american["value"] == pytest.approx(european["value"], abs=0.01)
    assert american["delta"] == pytest.approx(european["delta"], abs=0.002)
    assert american["gamma"] == pytest.approx(european["gamma"], abs=0.0005)
    assert american["vega"] == pytest.approx(european["vega"], abs=0.05)
    assert american["rho"] == pytest.approx(european["rho"], abs=0.05)
    # Theta of an American is the decay over the first day, which a day from now is already a little faster.
    assert american["theta"] == pytest.approx(european["theta"], rel=0.03)


def test_american_put_deep_in_the_money_is_exercised_at_once() -> None:
    position = figures(option(PUT, AMERICAN, 150, 180), 100, 0.2, 0.08)
    assert position["value"] == pytest.approx(50, abs=1e-3)
    assert position["delta"] == pytest.approx(-1, abs=1e-3)
    for figure in (position["gamma"], position["vega"], position["theta"], position["rho"]):
        assert figure == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize("exercise", Exercise)
def test_figures_are_those_of_the_whole_signed_position(exercise: Exercise) -> None:
    one = figures(option(CALL, exercise, 95, 200), 100, 0.3, 0.03, 0.02)
    short = figures(option(CALL, exercise, 95, 200, quantity=-300), 100, 0.3, 0.03, 0.02)
    assert short["value"] == one["value"] * -300 < 0
    assert short["delta"] == one["delta"] * -300
    assert short["gamma"] == one["gamma"] * -300
    assert short["vega"] == one["vega"] * -300
    assert short["theta"] == one["theta"] * -300
    assert short["rho"] == one["rho"] * -300


def test_a_trade_is_priced_the_same_in_any_company_and_order() -> None:
    # Bumps and engines are shared by the trades of an underlying: nothing of one trade may be left for the next.
    trades = [
        option(kind, exercise, strike, days, 7, f"{kind}-{exercise}-{strike}-{days}")
        for kind in OptionType
        for exercise in Exercise
        for strike in (80.0, 100.0, 130.0)
        for days in (31, 400)
    ]
    underlyings = {"X": Underlying(100, 0.3, 0.02)}
    shuffled = random.Random(5).sample(trades, len(trades))
    together = {p["trade_id"]: p for p in price(PricingRequest(TODAY, 0.03, underlyings, tuple(shuffled)))}
    alone = {t.trade_id: price(PricingRequest(TODAY, 0.03, underlyings, (t,)))[0] for t in trades}
    assert together == alone
