"""The outcome of an attempt: which tasks of a chunk are final, and which are run again. Pure."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from htcgrid_agent.work.task import (
    Completed,
    Failed,
    TaskEnd,
)
from htcgrid_chunks.chunk import Chunk
from htcgrid_chunks.history import (
    History,
    brief,
)
from htcgrid_dataplane import MAX_EXPANDED_BYTES
from htcgrid_events import (
    MAX_TASK_BYTES,
    Attempt,
    FailedTask,
    FailureKind,
    OutcomeCode,
    RetryPolicy,
    TaskError,
    task_id,
)

_MAX_MESSAGE = 16 * 1024
_MAX_EVENT_TEXT = 500
_MAX_TRACE_LINES = 64
_MAX_TRACE_LINE = 1024
_SHORT_ERROR_BYTES = 8 * 1024
"""Room that is kept for the error of each task, however large the results of the others are."""
_SHORT_MESSAGE = 500
_SHORT_TYPE = 100


@dataclass(frozen=True)
class Runner:
    """Who ran a task, as users see it in errors."""

    agent: str
    host: str
    version: Callable[[], str] = str

    @property
    def function_digest(self) -> str:
        """Which version of the function it runs; empty where that is not known."""
        return self.version()


@dataclass(frozen=True)
class Conclusion:
    """A chunk after an attempt."""

    outcomes: str
    lines: Sequence[bytes]
    """A line per task: its result, its error, or nothing while it is open."""
    tries: Mapping[int, int]
    history: History
    """The failed tries of open tasks; those of tasks that failed for good are in their error."""

    @property
    def open_offsets(self) -> list[int]:
        """Offsets of the tasks that are run again."""
        return [offset for offset, code in enumerate(self.outcomes) if code == OutcomeCode.OPEN.value]

    @property
    def retry(self) -> int:
        """The number of the next retry (1, 2, …) of the open task that failed most often; 0 if none has failed."""
        return max((self.tries.get(offset, 0) for offset in self.open_offsets), default=0)


def conclude(
    chunk: Chunk, earlier_results: Sequence[bytes], ends: Mapping[int, TaskEnd], policy: RetryPolicy, runner: Runner
) -> Conclusion:
    """Merge how tasks ended (by their offsets) into the outcome of earlier attempts.

    `earlier_results` has a line per task. A task that already has an outcome keeps it.
    """
    outcomes = list(chunk.outcomes)
    lines = list(earlier_results)
    tries = dict(chunk.tries)
    history = dict(chunk.history)
    free = max_result_bytes(chunk.size) - results_size(lines)
    free -= sum(len(end.result) for end in ends.values() if isinstance(end, Completed))
    for offset, end in sorted(ends.items()):
        if outcomes[offset] != OutcomeCode.OPEN.value:
            continue
        if isinstance(end, Completed):
            outcomes[offset] = OutcomeCode.COMPLETED.value
            lines[offset] = end.result
            continue
        earlier = history.pop(offset, ())
        if end.noted:
            earlier = earlier[:-1]
        else:
            tries[offset] = tries.get(offset, 0) + 1
        if end.final or tries[offset] > policy.max_retries or not policy.may_retry(end.type):
            outcomes[offset] = OutcomeCode.FAILED.value
            line = _error_line(end, tries[offset], runner, earlier)
            lines[offset] = line if len(line) <= free else _short_error_line(end, tries[offset], runner)
            free -= len(lines[offset])
        else:
            history[offset] = (*earlier, attempt_of(end, runner))
    return Conclusion("".join(outcomes), lines, tries, history)


def max_result_bytes(tasks: int) -> int:
    """How many bytes the lines of the results of a chunk may have, so that they can be read again with all errors."""
    return MAX_EXPANDED_BYTES - tasks * _SHORT_ERROR_BYTES


def results_size(lines: Sequence[bytes]) -> int:
    """How many bytes lines of results have, with a newline after each."""
    return sum(map(len, lines)) + len(lines)


def results_too_large(tasks: int) -> Failed:
    """The failure of a task whose result does not fit beside those of the other tasks of its chunk."""
    return Failed(
        FailureKind.HANDLER,
        "Chunk.ResultsTooLarge",
        f"The results of the {tasks} tasks of its chunk have more than {max_result_bytes(tasks)} bytes together: "
        "submit with a smaller chunk_size.",
        final=True,
    )


def attempt_of(end: Failed, runner: Runner) -> Attempt:
    """A failed try, as it is kept in the row."""
    return brief(
        Attempt(
            started_at=end.started_at,
            ended_at=end.ended_at,
            agent=runner.agent,
            host=runner.host,
            kind=end.kind,
            type=_encodable(end.type),
            message=_encodable(end.message),
            trace=tuple(_encodable(line) for line in end.trace),
            function_digest=runner.function_digest,
        )
    )


def retrying_task(chunk: Chunk, offset: int, end: Failed, tries: int, runner: Runner) -> FailedTask:
    """The entry of a task that is run again in the event `TasksRetrying`."""
    return FailedTask(
        task_id=task_id(chunk.key.session_id, chunk.first_task + offset),
        kind=end.kind,
        type=_encodable(end.type[:_MAX_EVENT_TEXT]),
        message=_encodable(end.message[:_MAX_EVENT_TEXT]),
        attempts=tries,
        function_digest=runner.function_digest,
    )


def completed_or_failed(body: bytes) -> TaskEnd:
    """How a task ended whose worker answered `body`: only a JSON text of legal size completes it."""
    if len(body) > MAX_TASK_BYTES:
        return too_large(len(body))
    try:
        _DECODER.decode(body.decode())
    except (ValueError, RecursionError) as error:
        return Failed(
            FailureKind.HANDLER, "Runtime.MarshalError", f"The result is not JSON: {_first_words(str(error))}"
        )
    # Between the tokens of valid JSON, and only there, a newline may become a space.
    return Completed(body.replace(b"\n", b" ") if b"\n" in body else body)


def completed_with_text(body: bytes) -> TaskEnd:
    """What the answer of a runtime says that may be any text: its result is the JSON text or, as a string, the text."""
    end = completed_or_failed(body)
    if isinstance(end, Completed) or len(body) > MAX_TASK_BYTES:
        return end
    try:
        text = json.dumps(body.decode(), ensure_ascii=False).encode()
    except UnicodeDecodeError:
        return Failed(FailureKind.HANDLER, "Runtime.MarshalError", "The result is neither JSON nor text in UTF-8.")
    return Completed(text) if len(text) <= MAX_TASK_BYTES else too_large(len(text))


def too_large(size: int) -> Failed:
    """The failure of a task whose result has `size` bytes, more than is legal."""
    return Failed(
        FailureKind.HANDLER,
        "Function.ResponseSizeTooLarge",
        f"The result has {size} bytes; at most {MAX_TASK_BYTES} are legal.",
    )


def handler_failure(body: bytes, kind: FailureKind = FailureKind.HANDLER) -> Failed:
    """How a task ended whose runtime sent this error report, in the form that all Lambda runtimes share."""
    try:
        report = json.loads(body)
    except (ValueError, RecursionError):
        report = None
    if not isinstance(report, dict):
        return Failed(kind, "Runtime.Unknown", "The runtime reported an error without saying which.")
    trace = report.get("stackTrace", report.get("trace"))
    return Failed(
        kind,
        str(report.get("errorType") or "Runtime.Unknown"),
        str(report.get("errorMessage") or ""),
        tuple(str(line) for line in trace) if isinstance(trace, list) else (),
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _error_line(end: Failed, attempts: int, runner: Runner, earlier: tuple[Attempt, ...]) -> bytes:
    error = TaskError(
        kind=end.kind,
        type=_encodable(end.type[:_MAX_TRACE_LINE]),
        message=_encodable(end.message[:_MAX_MESSAGE]),
        trace=tuple(_encodable(line[:_MAX_TRACE_LINE]) for line in _middle_out(end.trace)),
        attempts=attempts,
        agent=runner.agent,
        host=runner.host,
        function_digest=runner.function_digest,
        history=earlier,
    )
    return error.model_dump_json().encode()


def _short_error_line(end: Failed, attempts: int, runner: Runner) -> bytes:
    short = replace(end, type=end.type[:_SHORT_TYPE], message=end.message[:_SHORT_MESSAGE], trace=())
    return _error_line(short, attempts, runner, ())


def _middle_out(trace: Sequence[str]) -> list[str]:
    """A trace of at most `_MAX_TRACE_LINES` lines: its beginning and, mostly, its end."""
    if len(trace) <= _MAX_TRACE_LINES:
        return list(trace)
    head, tail = _MAX_TRACE_LINES // 4, _MAX_TRACE_LINES - _MAX_TRACE_LINES // 4
    return [*trace[:head], f"… {len(trace) - head - tail} more …", *trace[-tail:]]


def _encodable(text: str) -> str:
    # JSON may spell half a surrogate pair, which UTF-8 cannot: it is shown as it is spelled.
    return text.encode("utf-8", "backslashreplace").decode()


def _first_words(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
