"""Whether two valuations of one book are exactly equal, trade by trade and figure by figure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from option_pricing import Position

FIGURES = ("value", "delta", "gamma", "vega", "theta", "rho")


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of one trade that differs, or a whole trade that only one side has (the other side is `None`)."""

    trade_id: str
    figure: str
    grid: object
    in_process: object

    def __str__(self) -> str:
        # repr() of a float gives every digit that tells it from its neighbours.
        return f"trade {self.trade_id}, {self.figure}: grid {self.grid!r}, in one process {self.in_process!r}"


def differences(grid: Mapping[str, "Position"], in_process: Mapping[str, "Position"]) -> list[Difference]:
    """Return every figure that is not exactly equal, in the order of the trades' ids.

    There is no tolerance: the same code on the same kind of processor, given the same numbers, has no reason to differ.
    """
    found = []
    for trade_id in sorted(grid.keys() | in_process.keys()):
        for figure in FIGURES:
            left, right = _figure(grid, trade_id, figure), _figure(in_process, trade_id, figure)
            # Missing on both sides is no agreement; and what is not a number never equals anything, itself included.
            if left is None or left != right:
                found.append(Difference(trade_id, figure, left, right))
    return found


def _figure(positions: Mapping[str, "Position"], trade_id: str, figure: str) -> object:
    position = positions.get(trade_id)
    return None if position is None else position.get(figure)
