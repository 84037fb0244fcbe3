"""The options of a local grid: its size, and the settings of its agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from htcgrid_local.errors import OptionError

MAX_AGENTS: Final = 64
"""Each is a Python process; more of them on one machine show nothing that fewer would not."""
MAX_WORKERS: Final = 256
"""The most that an agent accepts."""

_PREFIX: Final = "HTCGRID_"
_SETTINGS_FILE: Final = "HTCGRID_SETTINGS_FILE"
_OF_OPTIONS: Final = {
    "HTCGRID_WORKERS": "--workers",
    "HTCGRID_FUNCTION_DIR": "--function",
    "HTCGRID_HANDLER": "--handler",
    "HTCGRID_RUNTIME": "--runtime",
    "HTCGRID_STORE": "--store",
}
_OF_THE_GRID: Final = frozenset(
    {
        "HTCGRID_AGENT_ID",
        "HTCGRID_CHUNKS_TABLE",
        "HTCGRID_DATA_BUCKET",
        "HTCGRID_STORE_SETTINGS",
        "HTCGRID_TASK_EVENTS_QUEUE_URL",
        "HTCGRID_TASK_QUEUE_URLS",
    }
)


def check_size(agents: int, workers: int) -> None:
    """Make sure that so many agents with so many workers each are a grid for one machine.

    Raises:
        OptionError: one of the two is out of bounds.
    """
    if not 0 <= agents <= MAX_AGENTS:
        raise OptionError(f"A local grid has 0 to {MAX_AGENTS} agents, not {agents}.")
    if not 1 <= workers <= MAX_WORKERS:
        raise OptionError(f"An agent of a local grid has 1 to {MAX_WORKERS} workers, not {workers}.")


def environment_of(pairs: Sequence[str]) -> dict[str, str]:
    """The agents' settings in `pairs`, each `NAME=VALUE`; whether a value is legal the agents say when they start.

    Raises:
        OptionError: one has another form, or names what is no setting of an agent or what the grid sets itself.
    """
    environment = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.startswith(_PREFIX):
            raise OptionError(
                f"--env '{pair}' must have the form {_PREFIX}NAME=VALUE, for example HTCGRID_LEASE_SECONDS=30."
            )
        if option := _OF_OPTIONS.get(name):
            raise OptionError(f"--env cannot set {name}: use {option}.")
        if name in _OF_THE_GRID:
            raise OptionError(f"--env cannot set {name}: the grid does.")
        if name not in (known := _settings()):
            raise OptionError(f"--env {name} is no setting of an agent; there are: {', '.join(known)}.")
        environment[name] = value
    return environment


def _settings() -> list[str]:
    # Imported when it is needed: half of the commands' start would go into it.
    from htcgrid_agent.settings import Settings

    names = {f"{_PREFIX}{field.upper()}" for field in Settings.model_fields} | {_SETTINGS_FILE}
    return sorted(names - _OF_OPTIONS.keys() - _OF_THE_GRID)
