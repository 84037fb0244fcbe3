"""What an attempt makes of a chunk."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htcgrid_agent.execution.batch_sizing import BatchSizing
from htcgrid_agent.work import conclusion
from htcgrid_agent.work.conclusion import (
    Runner,
    completed_or_failed,
    conclude,
    handler_failure,
    max_result_bytes,
    results_too_large,
)
from htcgrid_agent.work.task import (
    Completed,
    Failed,
    TaskEnd,
)
from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
    Payload,
)
from htcgrid_chunks.history import History
from htcgrid_chunks.state import ChunkState
from htcgrid_dataplane import decode_lines, encode_lines, encoding
from htcgrid_events import MAX_TASK_BYTES, NON_RETRYABLE, FailureKind, RetryPolicy, TaskError

RUNNER = Runner("agent", "host")
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
failures = st.builds(
    Failed,
    st.sampled_from(FailureKind),
    st.text(max_size=9),
    st.text(max_size=9),
    st.lists(st.text(max_size=3), max_size=80).map(tuple),
)
short_failures = st.builds(Failed, st.sampled_from(FailureKind), st.just("E"), st.text(max_size=3))
ends = st.builds(Completed, st.integers().map(lambda number: str(number).encode())) | short_failures


def _no_history() -> History:
    return {}


def chunk_of(
    size: int, outcomes: str | None = None, tries: dict[int, int] | None = None, history: History | None = None
) -> Chunk:
    return Chunk(
        ChunkKey("a" * 32, 0),
        "t",
        ChunkState.RUNNING,
        0,
        size,
        1,
        Payload(b""),
        outcomes or "Q" * size,
        tries=tries or {},
        history=history or {},
    )


@given(st.lists(st.dictionaries(st.integers(0, 5), ends, max_size=6), max_size=6), st.integers(0, 3))
def test_attempt_by_attempt_every_task_gets_one_outcome(attempts: list[dict[int, TaskEnd]], max_retries: int) -> None:
    outcomes, lines, tries, history = "Q" * 6, [b""] * 6, dict[int, int](), _no_history()
    policy = RetryPolicy(max_retries=max_retries)
    for attempt in attempts:
        before = outcomes, lines, tries
        conclusion = conclude(chunk_of(6, outcomes, tries, history), lines, attempt, policy, RUNNER)
        outcomes, lines, tries = conclusion.outcomes, list(conclusion.lines), dict(conclusion.tries)
        history = conclusion.history
        assert decode_lines(encode_lines(lines), 6) == lines
        for offset in range(6):
            if before[0][offset] != "Q":
                assert (outcomes[offset], lines[offset]) == (before[0][offset], before[1][offset])
                continue
            end = attempt.get(offset)
            if isinstance(end, Completed):
                assert (outcomes[offset], lines[offset]) == ("C", end.result)
            elif isinstance(end, Failed):
                assert tries[offset] == before[2].get(offset, 0) + 1
                assert outcomes[offset] == ("F" if tries[offset] > max_retries else "Q")
            else:
                assert outcomes[offset] == "Q"
            if outcomes[offset] == "F":
                error = TaskError.model_validate_json(lines[offset])
                assert (error.attempts, len(error.history)) == (max_retries + 1, max_retries)
                assert offset not in history
            else:
                assert len(history.get(offset, ())) == tries.get(offset, 0)
        assert conclusion.open_offsets == [offset for offset in range(6) if outcomes[offset] == "Q"]
        assert conclusion.retry == max((tries.get(offset, 0) for offset in conclusion.open_offsets), default=0)


@given(json_values, st.sampled_from([None, 1]))
def test_json_of_any_shape_is_a_result_on_one_line(value: object, indent: int | None) -> None:
    end = completed_or_failed(json.dumps(value, indent=indent, ensure_ascii=False).encode())
    assert isinstance(end, Completed)
    assert b"\n" not in end.result
    assert json.loads(end.result) == value


@pytest.mark.parametrize(
    "body", [b"", b"NaN", b'{"a": [Infinity]}', b"-Infinity", b"\xff\xfe1\x00", b"1 2", b"{'a': 1}"]
)
def test_what_is_not_json_is_a_failure(body: bytes) -> None:
    end = completed_or_failed(body)
    assert isinstance(end, Failed)
    assert end.type == "Runtime.MarshalError"


def test_a_result_that_is_nested_too_deep_is_a_failure() -> None:
    assert isinstance(completed_or_failed(b"[" * 200_000 + b"]" * 200_000), Failed)


def test_the_limit_of_a_result_is_exact() -> None:
    assert isinstance(completed_or_failed(b'"' + b"x" * (MAX_TASK_BYTES - 2) + b'"'), Completed)
    assert isinstance(completed_or_failed(b'"' + b"x" * (MAX_TASK_BYTES - 1) + b'"'), Failed)


@given(failures)
def test_any_failure_becomes_one_bounded_line(failure: Failed) -> None:
    (line,) = conclude(chunk_of(1), [b""], {0: failure}, RetryPolicy(max_retries=0), RUNNER).lines
    error = TaskError.model_validate_json(line)
    assert b"\n" not in line
    assert (error.kind, error.attempts, error.agent, error.host) == (failure.kind, 1, "agent", "host")
    assert len(error.trace) <= 65


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"errorType": "E", "errorMessage": "m", "stackTrace": ["a", "b"]}', ("E", "m", ("a", "b"))),
        (b'{"errorType": "Error", "errorMessage": "m", "trace": ["a"]}', ("Error", "m", ("a",))),
        (b'{"errorMessage": null}', ("Runtime.Unknown", "", ())),
        (b"no json", ("Runtime.Unknown", "The runtime reported an error without saying which.", ())),
        (b"[1]", ("Runtime.Unknown", "The runtime reported an error without saying which.", ())),
        (b'{"errorType": "\\ud800"}', ("\ud800", "", ())),
    ],
)
def test_errors_are_read_in_the_form_of_all_runtimes(body: bytes, expected: tuple[object, ...]) -> None:
    failure = handler_failure(body)
    assert (failure.type, failure.message, failure.trace) == expected
    conclude(chunk_of(1), [b""], {0: failure}, RetryPolicy(max_retries=0), RUNNER)


@pytest.mark.parametrize("type_", ["ValueError", NON_RETRYABLE])
def test_an_error_that_is_declared_final_is_not_tried_again(type_: str) -> None:
    policy = RetryPolicy(max_retries=5, non_retryable=("ValueError",))
    ends: dict[int, TaskEnd] = {
        0: Failed(FailureKind.HANDLER, type_, "no"),
        1: Failed(FailureKind.HANDLER, "KeyError", "no"),
    }
    conclusion = conclude(chunk_of(2), [b"", b""], ends, policy, RUNNER)
    assert conclusion.outcomes == "FQ"
    assert TaskError.model_validate_json(conclusion.lines[0]).attempts == 1


def test_each_try_is_told_with_its_time_place_and_reason() -> None:
    first = Failed(FailureKind.TIMEOUT, "Sandbox.Timedout", "slow", started_at=10, ended_at=20)
    second = Failed(FailureKind.HANDLER, "ValueError", "no", ("line 1",), started_at=30, ended_at=40)
    policy = RetryPolicy(max_retries=1)
    once = conclude(chunk_of(1), [b""], {0: first}, policy, Runner("agent-1", "host-1"))
    twice = conclude(chunk_of(1, "Q", dict(once.tries), once.history), [b""], {0: second}, policy, RUNNER)
    error = TaskError.model_validate_json(twice.lines[0])
    [earlier] = error.history
    assert (earlier.started_at, earlier.ended_at, earlier.agent, earlier.host) == (10, 20, "agent-1", "host-1")
    assert (earlier.kind, earlier.type, earlier.message) == (FailureKind.TIMEOUT, "Sandbox.Timedout", "slow")
    assert (error.kind, error.agent, error.attempts) == (FailureKind.HANDLER, "agent", 2)


def test_a_try_that_was_noted_before_it_ran_is_counted_once() -> None:
    noted = Failed(FailureKind.LOST, "Agent.Lost", "gone", started_at=1, ended_at=1)
    marked = conclude(chunk_of(1), [b""], {0: noted}, RetryPolicy(max_retries=9), RUNNER)
    final = conclude(
        chunk_of(1, "Q", dict(marked.tries), marked.history),
        [b""],
        {0: replace(noted, noted=True)},
        RetryPolicy(max_retries=0),
        RUNNER,
    )
    error = TaskError.model_validate_json(final.lines[0])
    assert (final.outcomes, error.attempts, error.history, error.kind) == ("F", 1, (), FailureKind.LOST)


@given(
    st.lists(
        st.one_of(
            st.integers(1, 20_000).map(lambda size: Completed(b"1" * size)),
            st.builds(
                Failed,
                st.just(FailureKind.HANDLER),
                st.text(max_size=300),
                st.integers(0, 20_000).map(lambda size: "\x01" * size),
                st.integers(0, 80).map(lambda lines: ("\x02" * 2000,) * lines),
            ),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_is_written_can_be_read(results: list[TaskEnd]) -> None:
    size = len(results)
    with pytest.MonkeyPatch.context() as patch:
        limit = size * 8 * 1024 + 60_000
        for module in (conclusion, encoding):
            patch.setattr(module, "MAX_EXPANDED_BYTES", limit)
        used, bounded = size, dict[int, TaskEnd]()
        for offset, end in enumerate(results):
            fits = not isinstance(end, Completed) or used + len(end.result) <= max_result_bytes(size)
            bounded[offset] = end if fits else results_too_large(size)
            used += len(end.result) if fits and isinstance(end, Completed) else 0
        made = conclude(chunk_of(size), [b""] * size, bounded, RetryPolicy(max_retries=0), RUNNER)
        lines = decode_lines(encode_lines(made.lines), size)
    for offset, end in bounded.items():
        if isinstance(end, Failed):
            error = TaskError.model_validate_json(lines[offset])
            assert end.message.startswith(error.message)
            assert len(error.message) >= min(len(end.message), 500)
        else:
            assert lines[offset] == end.result


def test_half_a_surrogate_pair_is_shown_as_it_is_spelled() -> None:
    end = Failed(FailureKind.HANDLER, "ValueError", "bad \ud800")
    [line] = conclude(chunk_of(1), [b""], {0: end}, RetryPolicy(max_retries=0), RUNNER).lines
    assert TaskError.model_validate_json(line).message == "bad \\ud800"


def test_sizes_of_batches_are_forgotten_for_the_sessions_used_least_recently() -> None:
    sizing = BatchSizing()
    sizing.record("long-lived", 0.001)
    for number in range(1_000):
        sizing.record(f"session-{number}", 1.0)
        assert sizing.batch_size("long-lived") == 15
    assert sizing.batch_size("session-0") == 1
