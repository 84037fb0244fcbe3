"""The callback with which the clients of AWS services count failures. The functions publish the metrics."""

from collections.abc import Callable

CountMetric = Callable[[str, int], None]
"""Adds a number to the metric of this name."""


def count_nothing(name: str, value: int) -> None:
    """For those who publish no metrics."""
