"""Reads a grid's file, and says what is wrong with it."""

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from htcgrid_deploy.config.first_grid import REPLACED, REPLACED_IN_AGENTS, REPLACED_IN_CONTAINERS
from htcgrid_deploy.config.grid_config import GridConfig
from htcgrid_deploy.config.workers import AgentContainer, Function
from htcgrid_deploy.errors import ConfigInvalid


def read_config(file: Path) -> tuple[GridConfig, tuple[str, ...]]:
    """The grid that a file describes, and a line for each key of the first HTC-Grid that is replaced.

    Raises:
        ConfigInvalid: it cannot be read, is not JSON, or a value is wrong; names each.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigInvalid(f"{file} cannot be read: {reason}") from error
    return parse_config(text, str(file))


def parse_config(text: str, name: str) -> tuple[GridConfig, tuple[str, ...]]:
    """As `read_config`, of a text; `name` is what messages call it."""
    try:
        content = json.loads(text, object_pairs_hook=_without_repetition)
    except ValueError as error:
        raise ConfigInvalid(f"{name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigInvalid(f"{name} must be a JSON object")
    notices = tuple(_taken_out(content))
    try:
        return GridConfig.model_validate(content), notices
    except ValidationError as error:
        faults = "\n".join(f"  {_fault(fault)}" for fault in error.errors(include_url=False))
        raise ConfigInvalid(f"{name} describes no grid:\n{faults}") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key '{key}' occurs twice in one object")
        found[key] = value
    return found


def _taken_out(content: dict[str, Any]) -> Iterator[str]:
    """Takes out the keys that mean nothing any more, and says what took their place."""
    yield from _replaced(content, "", REPLACED)
    agents = content.get("agent_configuration")
    if isinstance(agents, dict):
        yield from _replaced(agents, "agent_configuration.", REPLACED_IN_AGENTS)
        containers: Mapping[str, type[BaseModel]] = {"lambda": Function, "agent": AgentContainer}
        for name, model in containers.items():
            if isinstance(container := agents.get(name), dict):
                old = {key: text for key, text in REPLACED_IN_CONTAINERS.items() if key not in model.model_fields}
                yield from _replaced(container, f"agent_configuration.{name}.", old)


def _replaced(content: dict[str, Any], path: str, table: Mapping[str, str]) -> Iterator[str]:
    for key in [key for key in content if key in table]:
        del content[key]
        yield f"{path}{key} means nothing here: {table[key]}"


def _fault(fault: ErrorDetails) -> str:
    path = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in GridConfig.model_fields.items()]
        similar = get_close_matches(str(fault["loc"][-1]), known, 1) if len(fault["loc"]) == 1 else []
        message = f"there is no such key{f'; did you mean {similar[0]}?' if similar else ''}"
    return f"{path}: {message}" if path else message
