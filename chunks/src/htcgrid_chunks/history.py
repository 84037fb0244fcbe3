"""The failed tries of a chunk's tasks, as they are kept in its row. Pure functions.

Only what failed is in it, so the happy path neither writes nor pays for it. A row has room for a bounded history: where
it grows too large, traces are left out first, then all but the last tries of each task, then the words of messages.
"""

import zlib
from collections.abc import Callable, Mapping

from pydantic import TypeAdapter, ValidationError

from htcgrid_events import Attempt

MAX_HISTORY_BYTES = 16 * 1024
"""Most bytes of a chunk's history in its row, compressed: some write units for each write of a chunk that failed."""
_MAX_MESSAGE = 500
_MAX_TRACE_LINES = 8
_MAX_TRACE_LINE = 200

History = Mapping[int, tuple[Attempt, ...]]
"""The tries of each task that has failed, by its offset in the chunk, oldest first."""

_HISTORY = TypeAdapter(dict[int, tuple[Attempt, ...]])


def brief(attempt: Attempt) -> Attempt:
    """A try in the words in which it is kept: the end of its trace, the beginning of its message."""
    return attempt.model_copy(
        update={
            "type": attempt.type[:_MAX_TRACE_LINE],
            "message": attempt.message[:_MAX_MESSAGE],
            "trace": tuple(line[:_MAX_TRACE_LINE] for line in attempt.trace[-_MAX_TRACE_LINES:]),
        }
    )


def encode_history(history: History) -> bytes:
    """A history as it is stored, shortened until it has `MAX_HISTORY_BYTES` at most."""
    kept = dict(history)
    data = _encode(kept)
    for shorten in _SHORTENINGS:
        if len(data) <= MAX_HISTORY_BYTES:
            break
        kept = {offset: tuple(shorten(attempts)) for offset, attempts in kept.items()}
        data = _encode(kept)
    while len(data) > MAX_HISTORY_BYTES:
        kept = dict(list(kept.items())[: len(kept) // 2])
        data = _encode(kept)
    return data


def decode_history(data: bytes | None) -> History:
    """A history from its stored form; an empty one where there is none, or nothing that `encode_history` wrote."""
    # So much expands to 17 MB at most: zlib's ratio is 1032.
    if not data or len(data) > MAX_HISTORY_BYTES:
        return {}
    try:
        return _HISTORY.validate_json(zlib.decompress(data))
    except (zlib.error, ValidationError):
        return {}


def _encode(history: History) -> bytes:
    return zlib.compress(_HISTORY.dump_json(dict(history)), 6)


def _without_traces(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    return tuple(attempt.model_copy(update={"trace": ()}) for attempt in attempts)


def _without_words(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    return tuple(attempt.model_copy(update={"message": attempt.message[:40]}) for attempt in attempts)


_SHORTENINGS: tuple[Callable[[tuple[Attempt, ...]], tuple[Attempt, ...]], ...] = (
    _without_traces,
    lambda attempts: attempts[-3:],
    _without_words,
    lambda attempts: attempts[-1:],
)
