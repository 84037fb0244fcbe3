"""Redriving and purging dead letters: as many requests as it takes, each going on where the one before stopped."""

import re
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from htcgrid._submit.json_line import json_line
from htcgrid.errors import InvalidOption
from htcgrid.options import JSON, task_number
from htcgrid_events import DeadLettersDone, PurgeTasks, RedriveTasks

if TYPE_CHECKING:
    from typing import SupportsIndex

_Request = TypeVar("_Request", RedriveTasks, PurgeTasks)
_FINGERPRINT = re.compile("[0-9a-f]{16}")

TASKS_AT_A_TIME = 1_000
"""Tasks that one request names: the contract's limit."""

EVENTS_BYTES_AT_A_TIME = 2 * 1024 * 1024
"""Text of new events in one request: well below a request's limit, escaped as it is."""


def redrives(
    fingerprint: str | None, tasks: "Iterable[SupportsIndex] | None", events: "Mapping[int, JSON] | None"
) -> list[RedriveTasks]:
    """The requests that redrive these dead letters.

    Raises:
        InvalidOption: the selection is contradictory or malformed.
        InvalidTask: an event is not JSON.
    """
    texts = {
        task_number(index): json_line(task_number(index), event).decode() for index, event in (events or {}).items()
    }
    numbers = _numbers(fingerprint, tasks)
    if numbers is None and texts and fingerprint is None:
        numbers = sorted(texts)  # new events for some tasks mean these tasks, not all the others as well
    if numbers is None:
        return [RedriveTasks(fingerprint=fingerprint, events=texts)]
    strangers = sorted(texts.keys() - set(numbers))
    if strangers:
        raise InvalidOption(f"an event is given for task {strangers[0]}, which is not among the tasks to be redriven")
    return [
        RedriveTasks(tasks=part, events={number: texts[number] for number in part if number in texts})
        for part in _parts(numbers, texts)
    ]


def purges(fingerprint: str | None, tasks: "Iterable[SupportsIndex] | None") -> list[PurgeTasks]:
    """The requests that purge these dead letters. Raises `InvalidOption` as `redrives` does."""
    numbers = _numbers(fingerprint, tasks)
    if numbers is None:
        return [PurgeTasks(fingerprint=fingerprint)]
    return [PurgeTasks(tasks=part) for part in _parts(numbers, {})]


async def carry_out(
    requests: Iterable[_Request], ask: Callable[[_Request], Coroutine[Any, Any, DeadLettersDone]]
) -> int:
    """Make the requests, each until it is done. How many tasks were affected."""
    tasks = 0
    for request in requests:
        done = await ask(request)
        tasks += done.tasks
        while done.next_bucket is not None:
            after = -1 if done.next_after is None else done.next_after
            done = await ask(request.model_copy(update={"bucket": done.next_bucket, "after": after}))
            tasks += done.tasks
    return tasks


def _numbers(fingerprint: str | None, tasks: "Iterable[SupportsIndex] | None") -> list[int] | None:
    if fingerprint is not None and tasks is not None:
        raise InvalidOption("give either a fingerprint or tasks, not both")
    if fingerprint is not None and not (isinstance(fingerprint, str) and _FINGERPRINT.fullmatch(fingerprint)):
        what = f"fingerprint={fingerprint!r} is not legal: give that of a dead letter, 16 hexadecimal digits"
        raise InvalidOption(what)
    if tasks is None:
        return None
    numbers = sorted({task_number(index) for index in tasks})
    if numbers and numbers[0] < 0:
        raise InvalidOption(f"there is no task {numbers[0]}: the first one is task 0")
    return numbers


def _parts(numbers: list[int], texts: Mapping[int, str]) -> Iterator[tuple[int, ...]]:
    part: list[int] = []
    held = 0
    for number in numbers:
        size = len(texts.get(number, ""))
        if part and (len(part) == TASKS_AT_A_TIME or held + size > EVENTS_BYTES_AT_A_TIME):
            yield tuple(part)
            part, held = [], 0
        part.append(number)
        held += size
    if part:
        yield tuple(part)
