"""The shared data to which a task refers."""

import json
from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError

from htcgrid.errors import InvalidTask
from htcgrid_events import MAX_DATA_PER_REQUEST, REFERENCE_FIELD, DataReference

_MARK: Final = f'"{REFERENCE_FIELD}":'.encode()

References = dict[str, DataReference]
"""By their digests."""


def references_of(line: bytes, index: int) -> References:
    """The references in a task's event, as it travels. Almost all tasks hold none, which costs them next to nothing.

    Raises:
        InvalidTask: a reference is not right, or there are more than one request may have.
    """
    if _MARK not in line:
        return {}
    found = {reference.sha256: reference for reference in _references(json.loads(line), index)}
    if len(found) > MAX_DATA_PER_REQUEST:
        raise InvalidTask(
            f"task {index} refers to {len(found)} shared data, and a task may refer to {MAX_DATA_PER_REQUEST}: "
            "put a folder in their place",
            index=index,
        )
    return found


def _references(value: Any, index: int) -> Iterator[DataReference]:
    try:
        reference = DataReference.of_event(value)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, (REFERENCE_FIELD, *fault["loc"])))
        raise InvalidTask(
            f"task {index} refers to shared data by what is no reference: {place}: {fault['msg']}; give what "
            "Grid.put or `htcgrid data put` gave",
            index=index,
        ) from error
    if reference is not None:
        yield reference
    elif isinstance(value, dict):
        for item in value.values():
            yield from _references(item, index)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item, index)
