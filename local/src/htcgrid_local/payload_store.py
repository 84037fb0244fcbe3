"""The payload store of a local grid: what it needs on this machine, and how agents and functions reach it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from htcgrid_dataplane.filesystem import FilesystemStore
from htcgrid_local.errors import OptionError
from htcgrid_local.home import Home
from htcgrid_local.private_files import make_private_folder
from htcgrid_local.processes import Processes
from htcgrid_local.redis_server import redis_program, start_redis

S3: Final = "s3"
STORES: Final = (S3, "redis", "s3+redis", "filesystem")
"""Payload stores that a grid may have."""
_WITH_REDIS: Final = frozenset({"redis", "s3+redis"})
_IN_THE_BUCKET: Final = frozenset({S3, "s3+redis"})
"""Stores whose payloads functions and clients find in the grid's bucket."""


@dataclass(frozen=True)
class StoreInUse:
    """A store that runs."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)

    def agent_environment(self) -> dict[str, str]:
        """What agents are told of it."""
        if self.name == S3:
            return {}
        return {"HTCGRID_STORE": self.name, "HTCGRID_STORE_SETTINGS": json.dumps(self.settings)}

    def template_parameters(self) -> dict[str, str]:
        """What the functions are told of it, as parameters of the template."""
        if self.name in _IN_THE_BUCKET:
            return {}
        return {"Store": self.name, "StoreSettings": json.dumps(self.settings)}


def check_store(name: str) -> None:
    """Make sure that there is such a payload store, and that this machine has what it needs.

    Raises:
        OptionError: there is none.
        NotInstalledError: a program is missing.
    """
    if name not in STORES:
        raise OptionError(f"There is no store '{name}'; there are: {', '.join(STORES)}.")
    if name in _WITH_REDIS:
        redis_program()


def start_store(name: str, processes: Processes, home: Home) -> StoreInUse:
    """Start what a store needs.

    Raises:
        NotInstalledError: a program is missing.
    """
    if name in _WITH_REDIS:
        return StoreInUse(name, start_redis(processes, home))
    if name == "filesystem":
        make_private_folder(home.payloads)
        FilesystemStore.prepare(home.payloads)
        return StoreInUse(name, {"folder": str(home.payloads)})
    return StoreInUse(name)
