"""How the parts that talk to AWS count what went wrong: the functions publish it."""

from collections.abc import Callable

CountMetric = Callable[[str, int], None]
"""Adds a number to the metric of this name."""


def count_nothing(name: str, value: int) -> None:
    """For those who publish no metrics."""
