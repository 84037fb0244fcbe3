"""The probe task of `htcgrid doctor`: does somebody run tasks, and does the handler load?"""

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from htcgrid.async_grid import AsyncGrid
from htcgrid.cli.findings import Finding, advice_on
from htcgrid.errors import GridError, TaskFailed, WaitTimeout
from htcgrid_events import INLINE_BYTES

if TYPE_CHECKING:
    from htcgrid._core.client import Client

PROBE = "htcgrid_probe"
"""The field of the event by which a handler can tell a probe from its own tasks."""
PROBE_WITHIN = timedelta(seconds=30)
"""How long the doctor waits for the probe task."""
_LONGEST_RUN = timedelta(seconds=10)
_RAN = frozenset({"handler", "timeout"})
"""Kinds of failures of a handler that has been loaded: a made-up event need not please it."""


def _event() -> dict[str, object]:
    """An event that is too large for a row, compressed as well: it goes the way of payloads."""
    return {PROBE: True, "padding": secrets.token_urlsafe(INLINE_BYTES * 2)}


async def probe(client: "Client") -> Finding:
    """Run one task, in a session of its own."""
    try:
        session = await AsyncGrid(client).submit(
            [_event()], max_retries=0, priority="high", task_timeout=_LONGEST_RUN, timeout=timedelta(minutes=2)
        )
        try:
            (result,) = await session.results(return_exceptions=True, timeout=PROBE_WITHIN)
        except WaitTimeout:
            await session.cancel()
            return _fault(
                f"no agent has run it within {PROBE_WITHIN.total_seconds():.0f} s",
                "see whether agents run, and whether they are busy with other tasks",
            )
    except GridError as error:
        return _fault(str(error), advice_on(error) or "ask who runs the grid")
    if not isinstance(result, GridError):
        return Finding("probe task", True, "a worker ran it")
    if not isinstance(result, TaskFailed):
        return _fault(str(result), "run `htcgrid doctor` again")
    said = f"{result.type}: {result.message}"
    if result.kind in _RAN:
        return Finding("probe task", True, f"a worker ran it; of its made-up event the handler says {said}")
    what = "the handler cannot be loaded" if result.kind == "init" else f"it failed ({result.kind})"
    return _fault(f"{what}: {said}", f"see the trace with `htcgrid errors {session.id} --all`, and mend the function")


def _fault(found: str, what_to_do: str) -> Finding:
    return Finding("probe task", False, found, what_to_do)
