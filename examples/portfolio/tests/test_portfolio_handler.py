"""What the Lambda function takes and gives, and how it refuses what it cannot price."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from option_request import InvalidRequestError, parse_request
from portfolio_demo.in_process import load_handler

handler = load_handler(Path(__file__).resolve().parents[1] / "function")

EVENT: dict[str, Any] = {
    "valuation_date": "2026-01-20",
    "risk_free_rate": 0.03,
    "underlyings": {"X": {"spot": 100, "volatility": 0.2, "dividend_yield": 0.01}},
    "trades": [
        {
            "trade_id": "T1",
            "underlying": "X",
            "option_type": "put",
            "exercise": "american",
            "strike": 105.0,
            "maturity": "2026-09-18",
            "quantity": -100,
        },
        {
            "trade_id": "T2",
            "underlying": "X",
            "option_type": "call",
            "exercise": "european",
            "strike": 95,
            "maturity": "2027-01-15",
            "quantity": 200,
        },
    ],
}


def test_result_has_the_trades_in_order_and_survives_json_unchanged() -> None:
    result = handler(EVENT, None)
    assert [position["trade_id"] for position in result["positions"]] == ["T1", "T2"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_event_that_went_through_json_gives_the_same_result() -> None:
    assert handler(json.loads(json.dumps(EVENT)), None) == handler(EVENT, None)


MISSING = object()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("trades",), [], "trades: must be a list with at least one element"),
        (("underlyings",), {}, "underlyings: must be an object with at least one entry"),
        (("risk_free_rate",), "3 %", "risk_free_rate: must be a number, got '3 %'"),
        (("risk_free_rate",), 3, "risk_free_rate: must be between -0.1 and 1, got 3"),
        (("risk_free_rate",), float("nan"), "risk_free_rate: must be between"),
        (("valuation_date",), "20 January", "valuation_date: must be a date YYYY-MM-DD"),
        (("valuation_date",), MISSING, "valuation_date: is missing"),
        (("valuation_date",), "2026-09-18", r"trades\[0\].maturity: must be after the valuation date 2026-09-18"),
        (("underlyings", "X", "spot"), 0, "underlyings.X.spot: must be between"),
        (("underlyings", "X", "volatility"), 20, "underlyings.X.volatility: must be between 0.01 and 5, got 20"),
        (("underlyings", "X", "volatility"), True, "underlyings.X.volatility: must be a number, got True"),
        (("trades", 1), "T2", r"trades\[1\]: must be an object, got str"),
        (("trades", 1, "trade_id"), "T1", r"trades\[1\].trade_id: must be unique in its event, got 'T1' twice"),
        (("trades", 1, "trade_id"), " ", r"trades\[1\].trade_id: must be a non-empty string"),
        (("trades", 1, "underlying"), "Y", r"trades\[1\].underlying: has no market data in this event, got 'Y'"),
        (("trades", 1, "option_type"), "Call", r"trades\[1\].option_type: must be 'call' or 'put', got 'Call'"),
        (("trades", 1, "exercise"), None, r"trades\[1\].exercise: must be 'european' or 'american', got None"),
        (("trades", 1, "strike"), -95.0, r"trades\[1\].strike: must be between"),
        (("trades", 1, "maturity"), "2200-01-15", r"trades\[1\].maturity: must be a date YYYY-MM-DD from 1901-01-01"),
        (("trades", 1, "quantity"), 0, r"trades\[1\].quantity: must be a whole number other than 0, got 0"),
        (("trades", 1, "quantity"), 1.5, r"trades\[1\].quantity: must be a whole number"),
        (("trades", 1, "qty"), 5, r"trades\[1\].qty: is not a field; the fields are trade_id, underlying"),
        (("trades", 1, "strike"), MISSING, r"trades\[1\].strike: is missing"),
    ],
)
def test_an_illegal_field_is_named_with_what_is_legal(path: tuple[Any, ...], value: object, message: str) -> None:
    event = copy.deepcopy(EVENT)
    place: Any = event
    for key in path[:-1]:
        place = place[key]
    if value is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(InvalidRequestError, match=f"^{message}"):
        handler(event, None)


@pytest.mark.parametrize("event", [None, [], "trades"])
def test_an_event_that_is_no_object_is_refused(event: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"^event: must be an object, got"):
        parse_request(event)
