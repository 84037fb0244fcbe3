"""The whole HTC-Grid on one machine: embedded AWS, a real `sam deploy`, agents as processes."""

from htcgrid_local.agents import Agent
from htcgrid_local.errors import (
    AgentStartError,
    DeployError,
    EmulatorError,
    GridRunningError,
    HandlerError,
    HomeError,
    LocalGridError,
    NoGridError,
    NotInstalledError,
    OptionError,
    PortInUseError,
)
from htcgrid_local.grid import LocalGrid
from htcgrid_local.progress import StartupProgress, Terminal
from htcgrid_local.project import Project, find_project

__all__ = [
    "Agent",
    "AgentStartError",
    "DeployError",
    "EmulatorError",
    "GridRunningError",
    "HandlerError",
    "HomeError",
    "LocalGrid",
    "LocalGridError",
    "NoGridError",
    "NotInstalledError",
    "OptionError",
    "PortInUseError",
    "Project",
    "StartupProgress",
    "Terminal",
    "find_project",
]
