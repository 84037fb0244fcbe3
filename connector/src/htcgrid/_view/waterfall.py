"""A session's timeline as a small SVG picture, without any library."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from htcgrid.results import TaskTimes

STAGES = (
    ("submitted_at", "queued_at", "submitting", "#cfd8dc"),
    ("queued_at", "claimed_at", "in the queue", "#ffd180"),
    ("claimed_at", "started_at", "starting", "#80cbc4"),
    ("started_at", "finished_at", "running", "#1e88e5"),
    ("finished_at", "notified_at", "reporting", "#ce93d8"),
)
"""From when to when each stage of a task lasts, its name and colour."""

_MOST_ROWS = 200
_WIDTH = 640
_ROW = 3
_LEGEND = 110


def waterfall(title: str, tasks: "Sequence[TaskTimes]") -> str:
    """A row for each task, of very many for some that lie evenly among them."""
    rows = tasks[:: max(1, -(-len(tasks) // _MOST_ROWS))]
    spans = [
        (number, getattr(task, left), getattr(task, right), colour)
        for number, task in enumerate(rows)
        for left, right, _, colour in STAGES
        if getattr(task, left) and getattr(task, right)
    ]
    began = min((start for _, start, _, _ in spans), default=0)
    ended = max((end for _, _, end, _ in spans), default=0)
    scale = _WIDTH / max(1, ended - began)
    bars = [
        _bar((start - began) * scale, 20 + _ROW * number, max(0.5, (end - start) * scale), _ROW, colour)
        for number, start, end, colour in spans
    ]
    foot = 28 + _ROW * len(rows)
    legend = [
        f'{_bar(_LEGEND * at, foot, 10, 10, colour)}<text x="{_LEGEND * at + 14}" y="{foot + 9}">{label}</text>'
        for at, (_, _, label, colour) in enumerate(STAGES)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{foot + 16}" font-size="12"'
        f' font-family="sans-serif"><text y="13">{escape(title)}, {(ended - began) / 1000:,.1f} s</text>'
        f"{''.join(bars)}{''.join(legend)}</svg>"
    )


def _bar(x: float, y: int, width: float, height: int, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{colour}"/>'
