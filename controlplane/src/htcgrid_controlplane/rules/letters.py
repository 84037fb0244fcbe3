"""Makes the dead letters of a chunk from its failed tasks. Pure functions."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import ValidationError

from htcgrid_chunks.chunk import Chunk
from htcgrid_chunks.history import (
    History,
    brief,
)
from htcgrid_controlplane.rules.fingerprints import fingerprint
from htcgrid_events import Attempt, DeadLetter, FailureKind, OutcomeCode, TaskError

_MAX_TEXT = 500
"""Most characters of an error's type and of its message; the whole is in the task's record."""
_MAX_TEXTS = 60_000
"""Most characters of all types and messages of a chunk together: an item stays below DynamoDB's 400 KB also if each of
its 1,000 tasks fails in a way of its own."""


def failed_offsets(chunk: Chunk) -> Sequence[int]:
    """Which tasks of a chunk have failed for good."""
    return [offset for offset, code in enumerate(chunk.outcomes) if code == OutcomeCode.FAILED.value]


def letters_of(chunk: Chunk, lines: Mapping[int, bytes], without: Collection[int] = ()) -> tuple[DeadLetter, ...]:
    """The dead letters of a finished chunk, in the order of their first tasks. `lines` are the results of its failed
    tasks by offset, none if they cannot be read; tasks of which an index is in `without` are left out."""
    errors = {index: error for index, error in _errors(chunk, lines).items() if index not in without}
    alike: defaultdict[str, list[int]] = defaultdict(list)
    for index, error in errors.items():
        alike[fingerprint(error)].append(index)
    room = min(_MAX_TEXT, _MAX_TEXTS // max(1, len(alike)) // 2)
    return tuple(_letter(chunk, name, tasks, errors[tasks[0]], room) for name, tasks in alike.items())


def history_of(chunk: Chunk, lines: Mapping[int, bytes], offsets: Collection[int]) -> History:
    """What is known of tries of a finished chunk's tasks that are to run again: their errors, and what was before."""
    errors = {offset: error_of(chunk, offset, lines.get(offset, b"")) for offset in offsets}
    return {offset: (*error.history, _last_try(chunk, error)) for offset, error in errors.items()}


def chosen(letters: Iterable[DeadLetter], name: str | None, tasks: Collection[int] | None) -> frozenset[int]:
    """The tasks of letters that a selection means: those of one fingerprint, of some indexes, of both, or all."""
    wanted = None if tasks is None else frozenset(tasks)
    return frozenset(
        index
        for letter in letters
        if name in (None, letter.fingerprint)
        for index in letter.tasks
        if wanted is None or index in wanted
    )


def without(letters: Iterable[DeadLetter], tasks: Collection[int]) -> tuple[DeadLetter, ...]:
    """Letters without some of their tasks, and without those of which no task is left."""
    left = [
        letter.model_copy(update={"tasks": tuple(index for index in letter.tasks if index not in tasks)})
        for letter in letters
    ]
    return tuple(letter for letter in left if letter.tasks)


def _errors(chunk: Chunk, lines: Mapping[int, bytes]) -> Mapping[int, TaskError]:
    return {
        chunk.first_task + offset: error_of(chunk, offset, lines.get(offset, b"")) for offset in failed_offsets(chunk)
    }


def error_of(chunk: Chunk, offset: int, line: bytes) -> TaskError:
    """The error of a failed task, whose result is `line`; one that says so if it cannot be read any more."""
    try:
        return TaskError.model_validate_json(line)
    except ValidationError:
        return TaskError(
            kind=FailureKind.LOST,
            type="HTCGrid.ErrorLost",
            message="The error cannot be read any more.",
            attempts=chunk.tries.get(offset, chunk.attempt),
            agent=chunk.owner,
        )


def _last_try(chunk: Chunk, error: TaskError) -> Attempt:
    return brief(
        Attempt(
            started_at=chunk.stages.started_at or chunk.stages.claimed_at,
            ended_at=chunk.stages.finished_at,
            agent=error.agent,
            host=error.host,
            kind=error.kind,
            type=error.type,
            message=error.message,
            trace=error.trace,
            function_digest=error.function_digest,
        )
    )


def _letter(chunk: Chunk, name: str, tasks: Sequence[int], first: TaskError, room: int) -> DeadLetter:
    return DeadLetter(
        chunk=chunk.key.chunk,
        fingerprint=name,
        kind=first.kind,
        type=first.type[:room],
        message=first.message[:room],
        tasks=tuple(tasks),
        attempts=first.attempts,
        agent=first.agent,
        host=first.host,
        recorded_at=chunk.stages.finished_at,
    )
