"""`grid_config.json`: what it may say, and how it is read."""

from htcgrid_deploy.config.grid_config import DEFAULT_PARTITION, GridConfig
from htcgrid_deploy.config.reading import parse_config, read_config
from htcgrid_deploy.config.workers import AgentConfiguration, Function, Partition, WorkerGroup

__all__ = [
    "DEFAULT_PARTITION",
    "AgentConfiguration",
    "Function",
    "GridConfig",
    "Partition",
    "WorkerGroup",
    "parse_config",
    "read_config",
]
