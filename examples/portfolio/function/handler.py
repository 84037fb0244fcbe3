"""The Lambda function of the portfolio example: prices a group of option trades.

An ordinary Lambda handler: it knows nothing of the grid, and runs the same on AWS Lambda, on a grid worker and in the
process that imports it. Event and result are JSON; `option_request` and `option_pricing` describe their fields.
"""

from typing import TypedDict

from option_pricing import Position, price
from option_request import parse_request


class PricingResult(TypedDict):
    """The result of one task: a position's figures per trade, in the order of the event."""

    positions: list[Position]


def handler(event: object, context: object) -> PricingResult:
    """Price the event's trades. Raises `InvalidRequestError` for an event that is not legal."""
    return {"positions": price(parse_request(event))}
