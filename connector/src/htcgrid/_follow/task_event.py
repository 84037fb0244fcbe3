"""What a task was given."""

import json
from typing import TYPE_CHECKING, Any

from htcgrid.errors import ResultsUnavailable
from htcgrid_dataplane import DataPlaneError, pick_lines

if TYPE_CHECKING:
    from htcgrid._transport.api import Api


async def task_event(api: "Api", session_id: str, index: int) -> Any:
    """The event of a task. Raises `ResultsUnavailable` when the grid no longer keeps it, and what `Api` raises."""
    place = await api.task_input(session_id, index)
    data = place.inputs
    if data is None and place.url is not None:
        data = await api.payloads.get(place.url)
    if data is None:
        raise ResultsUnavailable(f"the grid no longer keeps the event of task {index} of session {session_id}")
    try:
        return json.loads(pick_lines([data], place.lines, [place.line])[place.line])
    except RecursionError:
        why = "it is nested too deeply for Python's recursion limit, see sys.setrecursionlimit"
    except (DataPlaneError, ValueError) as error:
        why = f"it is damaged: {error}"
    raise ResultsUnavailable(f"the event of task {index} of session {session_id} cannot be read: {why}")
