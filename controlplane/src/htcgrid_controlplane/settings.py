"""The settings of the functions, read from their environment once when a container starts."""

import os
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError

from htcgrid_controlplane.errors import ControlPlaneError
from htcgrid_controlplane.rules.quotas import TenantLimits


class BadSettings(ControlPlaneError):
    """Raised when an environment variable is missing or has an illegal value; the message names each."""


class Settings(BaseModel):
    """Names of the grid's resources. Each field is the environment variable `HTCGRID_<FIELD>`."""

    model_config = ConfigDict(frozen=True)

    sessions_table: str
    chunks_table: str
    connections_table: str
    dead_letters_table: str
    data_table: str
    task_events_queue_url: str
    data_bucket: str
    event_bus: str
    notification_topic: str
    push_endpoint: str
    """Where the management API of the WebSocket API answers."""
    tenants_table: str
    tenant_limits: Json[TenantLimits]
    """Of tenants whose row has no limits of its own."""
    partitions_table: str
    grid: str
    """The grid's name among metrics."""
    agent_workers: Annotated[int, Field(ge=1, le=256)]
    """How many tasks an agent runs at a time."""
    scaling_target_seconds: Annotated[int, Field(ge=1)]
    """Within which time outstanding work is to be done."""
    retention_days: Annotated[int, Field(ge=1, le=365)]
    """How long rows and payloads are kept after a session's deadline."""
    store: str = "s3"
    """The payload store that takes new payloads, as agents have it."""
    store_settings: Json[dict[str, str]] = {}
    """What that store needs."""
    former_stores: Json[dict[str, dict[str, str]]] = {}
    """Stores in which earlier payloads lie: their names, and what each needs."""

    @property
    def stores(self) -> dict[str, dict[str, str]]:
        """The settings of all stores, by their names."""
        return {**self.former_stores, self.store: self.store_settings}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the settings.

        Raises:
            BadSettings: a variable is missing or illegal.
        """
        values = {name: environment[_variable(name)] for name in cls.model_fields if _variable(name) in environment}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            faults = "; ".join(f"{_variable(str(fault['loc'][0]))}: {fault['msg']}" for fault in error.errors())
            raise BadSettings(f"The environment is not right: {faults}") from error


def _variable(field: str) -> str:
    return f"HTCGRID_{field.upper()}"
