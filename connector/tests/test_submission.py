"""What reaches the grid, and what does not."""

import gc
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta

import pytest
from connector.tests.stub_grid import Answer, StubGrid

from htcgrid import (
    EmptySession,
    Grid,
    GridUnavailable,
    InvalidOption,
    InvalidTask,
    PayloadTooLarge,
    RequestRejected,
    SessionState,
)
from htcgrid_dataplane import decode_lines
from htcgrid_events import MAX_REQUEST_BYTES, MAX_TASK_BYTES, Priority, new_id


def double(event: object) -> object:
    assert isinstance(event, int)
    return event * 2


class NotJson:
    """Nothing that JSON can say."""


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (NotJson(), "task 1: NotJson is not JSON: give numbers, texts, lists and dicts"),
        (float("nan"), "task 1: nan is not JSON: give a finite number, or None"),
        ({"x": [float("-inf")]}, r"task 1 at \['x'\]\[0\]: -inf is not JSON: give a finite number, or None"),
        ({("a", "b"): 1}, "task 1: a key of type tuple: give keys that are texts"),
        ("x" * MAX_TASK_BYTES, r"task 1 has 6,291,458 bytes as JSON and a task may have 6,291,456"),
    ],
)
def test_a_bad_task_in_a_list_changes_nothing(stub: StubGrid, grid: Grid, bad: object, said: str) -> None:
    with pytest.raises(InvalidTask, match=said) as told:
        grid.submit([1, bad, 3])  # type: ignore[list-item]
    assert told.value.index == 1
    assert stub.count("/api/") == 0


def test_a_task_that_contains_itself_is_no_json(grid: Grid) -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(InvalidTask, match="task 0 is nested more than 500 deep, or holds itself"):
        grid.submit([endless])


def test_a_task_that_is_too_large_says_by_how_much(grid: Grid) -> None:
    with pytest.raises(PayloadTooLarge) as told:
        grid.submit(["x" * (MAX_TASK_BYTES - 1)])
    assert (told.value.index, told.value.size, told.value.limit) == (0, MAX_TASK_BYTES + 1, MAX_TASK_BYTES)


@pytest.mark.parametrize("tasks", ["text", b"bytes", {"x": 1}, 7, None])
def test_what_is_surely_no_list_of_tasks_is_refused(stub: StubGrid, grid: Grid, tasks: object) -> None:
    with pytest.raises(InvalidTask, match="tasks must be a list or an iterable of JSON values, not one"):
        grid.submit(tasks)  # type: ignore[arg-type]
    assert stub.count("/api/") == 0


@pytest.mark.parametrize("tasks", [[], (), iter(())])
def test_a_session_without_tasks_is_refused(stub: StubGrid, grid: Grid, tasks: Iterator[int]) -> None:
    with pytest.raises(EmptySession, match="there is no task"):
        grid.submit(tasks)
    assert not stub.sessions


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prority": "high"}, "there is no option 'prority'; the options are max_failure_share, max_failures, max_ret"),
        ({"priority": "urgent"}, "priority='urgent' is not legal: give 'high', 'normal' or 'low'"),
        ({"partition": "No Such"}, "partition='No Such' is not legal: give a name of up to 32"),
        ({"max_retries": -1}, "max_retries=-1 is not legal: give a whole number from 0 to 20"),
        ({"task_timeout": timedelta(0)}, r"task_timeout=datetime.timedelta\(0\) is not legal: give a timedelta or"),
        ({"timeout": 1.5}, "timeout=1.5 is not legal: .* whole seconds"),
        ({"publish_completions": "perhaps"}, "publish_completions='perhaps' is not legal: give True or False"),
        ({"publish_completions": "yes"}, "publish_completions='yes' is not legal: give True or False"),
        ({"publish_completions": 1}, "publish_completions=1 is not legal"),
        ({"retry_base": -1}, "retry_base=-1 is not legal: give a timedelta or a number of seconds, from 0 to 1 hour"),
        ({"retry_base": "1"}, "retry_base='1' is not legal"),
        ({"retry_factor": 0.5}, "retry_factor=0.5 is not legal: give a number from 1 to 10"),
        ({"retry_cap": timedelta(days=1)}, "retry_cap=.* is not legal: .* 12 hours"),
        ({"non_retryable": "ValueError"}, "non_retryable='ValueError' is not legal: give a list of exception classes"),
        ({"non_retryable": [int]}, "non_retryable=.* is not legal"),
        ({"non_retryable": [""]}, "non_retryable=.* is not legal"),
        ({"max_failures": -1}, "max_failures=-1 is not legal: give a whole number from 0 up"),
        ({"max_failure_share": 1}, "max_failure_share=1 is not legal: give a number from 0 to below 1"),
        ({"max_retries": True}, "max_retries=True is not legal: give a whole number from 0 to 20"),
        ({"max_retries": 2.0}, "max_retries=2.0 is not legal"),
        ({"max_retries": "2"}, "max_retries='2' is not legal"),
        ({"task_timeout": "5"}, "task_timeout='5' is not legal: give a timedelta or a number of seconds"),
        ({"task_timeout": True}, "task_timeout=True is not legal"),
        ({"timeout": "3600"}, "timeout='3600' is not legal"),
        ({"timeout": None}, "timeout=None is not legal"),
        ({"priority": b"high"}, "priority=b'high' is not legal"),
        ({"partition": 5}, "partition=5 is not legal"),
        ({"chunk_size": 0}, "chunk_size=0 is not legal: give a whole number from 1 to 1,000"),
        ({"chunk_size": 1001}, "chunk_size=1001 is not legal"),
        ({"chunk_size": True}, "chunk_size=True is not legal"),
        ({"session_id": 5}, "session_id=5 is not legal: give the id of an earlier submission"),
        ({"session_id": "mine"}, "session_id='mine' is not legal: give the id of an earlier submission"),
    ],
)
def test_a_bad_option_changes_nothing(stub: StubGrid, grid: Grid, options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidOption, match=said) as told:
        grid.submit([1], **options)  # type: ignore[arg-type]
    assert "pydantic" not in str(told.value).lower()
    assert stub.count("/api/") == 0


def test_an_unknown_partition_is_an_invalid_option(stub: StubGrid, grid: Grid) -> None:
    stub.fail("PUT /api/sessions", Answer(422, b'{"error":"UnknownPartition","message":"There is no partition gpu."}'))
    with pytest.raises(InvalidOption, match="There is no partition gpu"):
        grid.submit([1], partition="gpu")


def test_options_reach_the_grid(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(
        [1], partition="gpu", priority="high", max_retries=0, task_timeout=timedelta(minutes=1), timeout=3600.0
    )
    options = stub.sessions[session.id].options
    assert (options.partition, options.priority, options.max_retries) == ("gpu", Priority.HIGH, 0)
    assert (options.task_timeout_seconds, options.session_timeout_seconds) == (60, 3600)


def test_the_retry_policy_and_the_failure_budget_reach_the_grid(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(
        [1],
        retry_base=timedelta(milliseconds=100),
        retry_factor=1.5,
        retry_cap=60,
        non_retryable=[ValueError, "risk.BadTrade", NotJson.__name__],
        max_failures=10,
        max_failure_share=0.05,
    )
    options = stub.sessions[session.id].options
    assert (options.retry_base_seconds, options.retry_factor, options.retry_cap_seconds) == (0.1, 1.5, 60)
    assert options.non_retryable == ("ValueError", "risk.BadTrade", "NotJson")
    assert (options.max_failures, options.max_failure_share) == (10, 0.05)


def test_a_priority_of_the_contract_and_a_tight_deadline_are_legal(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1], priority=Priority.LOW, task_timeout=100, timeout=10)
    options = stub.sessions[session.id].options
    assert (options.priority, options.task_timeout_seconds, options.session_timeout_seconds) == (Priority.LOW, 100, 10)


def test_tasks_travel_as_they_are_and_in_their_order(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([{"x": "ä\n"}, [1, 2.5, None], "", 0, True], chunk_size=2)
    chunks = stub.sessions[session.id].chunks
    lines = [line for n in sorted(chunks) for line in decode_lines(chunks[n].inputs or b"", chunks[n].size)]
    assert lines == [b'{"x":"\\u00e4\\n"}', b"[1,2.5,null]", b'""', b"0", b"true"]
    assert [chunks[n].first_task for n in sorted(chunks)] == [0, 2, 4]


def test_a_session_of_many_requests_is_closed_by_the_last(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(1000), chunk_size=1)
    requests = [request for request in stub.requests if session.id in request]
    assert requests[0].startswith("PUT")
    assert len(requests) == 8
    totals = stub.sessions[session.id].totals
    assert totals is not None
    assert (totals.chunks, totals.tasks) == (1000, 1000)


def test_large_inputs_are_uploaded_first(stub: StubGrid, grid: Grid) -> None:
    tasks = [f"{i}" * 3_000_000 + str(list(range(i * 5000, i * 5000 + 5000))) for i in range(5)]
    session = grid.submit(tasks)
    assert stub.count("/uploads") >= 1
    assert stub.largest_request < MAX_REQUEST_BYTES
    assert all(chunk.stored_bytes for chunk in stub.sessions[session.id].chunks.values())
    stub.run(session.id, lambda event: len(event) if isinstance(event, str) else None)
    assert session.results(timeout=60) == [len(task) for task in tasks]


def test_an_upload_that_lies_there_already_is_no_failure_and_is_not_replaced(stub: StubGrid, grid: Grid) -> None:
    tasks = [str(list(range(100_000)))]
    session = grid.submit(tasks, session_id=new_id())
    [(place, data)] = [(path, body) for path, body in stub.payloads.items() if path.startswith("/in/")]
    assert grid.submit(tasks, session_id=session.id).id == session.id
    with pytest.raises(RequestRejected, match="may be repeated, but not changed") as refusal:
        grid.submit([str(list(range(1, 100_001)))], session_id=session.id)
    assert refusal.value.reason == "UploadTaken"
    assert stub.payloads[place] == data


def test_a_bad_task_in_a_stream_cancels_what_was_sent(stub: StubGrid, grid: Grid) -> None:
    def tasks() -> Iterator[object]:
        yield from range(3000)
        yield NotJson()

    with pytest.raises(
        InvalidTask, match=r"task 3000: NotJson is not JSON.*what was already sent of session .* cancelled"
    ) as told:
        grid.submit(tasks())  # type: ignore[arg-type]
    assert told.value.index == 3000
    (session,) = stub.sessions.values()
    assert session.cancelled


def test_a_submission_that_is_stopped_from_elsewhere_says_so_in_one_sentence(stub: StubGrid, grid: Grid) -> None:
    stopped = b'{"error": "SessionClosed", "message": "The session takes no more chunks: it was stopped."}'
    stub.fail("POST /api/sessions/.*/chunks", Answer(409, stopped))
    with pytest.raises(
        RequestRejected, match=r"it was stopped; what was already sent of session .* has been cancelled$"
    ):
        grid.submit(iter(range(3000)), chunk_size=1)


def test_an_error_of_the_users_iterable_is_his_own(stub: StubGrid, grid: Grid) -> None:
    def tasks() -> Iterator[int]:
        yield from range(3000)
        raise KeyError("no such row")

    with pytest.raises(KeyError, match="no such row") as told:
        grid.submit(tasks())
    assert "has been cancelled" in told.value.__notes__[0]
    (session,) = stub.sessions.values()
    assert session.cancelled


def test_a_stream_that_fails_at_once_has_sent_nothing(stub: StubGrid, grid: Grid) -> None:
    with pytest.raises(InvalidTask):
        grid.submit(task for task in [NotJson()])  # type: ignore[misc]
    assert not stub.sessions


def test_a_submission_that_broke_off_can_be_repeated(stub: StubGrid) -> None:
    with Grid.connect(stub.profile(), request_timeout=0.3) as grid:
        stub.fail("POST .*/chunks", *[Answer(503)] * 100)
        with pytest.raises(
            GridUnavailable, match=r"submit the same tasks again with session_id='([0-9a-f]{32})'"
        ) as told:
            grid.submit(range(1000), chunk_size=1)
        assert told.value.retryable
        stub.faults.clear()
        (session_id,) = stub.sessions
        assert not stub.sessions[session_id].cancelled
        session = grid.submit(range(1000), chunk_size=1, session_id=session_id)
        assert session.id == session_id
        stub.run(session_id, double)
        assert session.results(timeout=60) == [2 * i for i in range(1000)]


def test_a_submission_that_the_grid_refuses_is_cancelled(stub: StubGrid, grid: Grid) -> None:
    stub.fail("POST .*/chunks", Answer(409, b'{"error":"SessionClosed","message":"It takes no more chunks."}'))
    with pytest.raises(RequestRejected, match=r"It takes no more chunks.*cancelled") as told:
        grid.submit(range(1000), chunk_size=1)
    assert (told.value.status, told.value.reason, told.value.retryable) == (409, "SessionClosed", False)
    (session,) = stub.sessions.values()
    assert session.cancelled


def test_a_repeated_request_is_harmless(stub: StubGrid, grid: Grid) -> None:
    stub.fail("PUT /api/sessions", Answer(503), Answer(0))
    session = grid.submit([1, 2], session_id=new_id())
    stub.run(session.id, double)
    assert session.results(timeout=60) == [2, 4]
    assert stub.count("PUT /api/sessions") == 3


def test_a_long_stream_is_sent_while_it_is_read(stub: StubGrid, grid: Grid) -> None:
    read_on = threading.Event()

    def tasks() -> Iterator[int]:
        yield from range(3000)
        assert read_on.wait(60)
        yield 3000

    outcome: list[object] = []
    submitting = threading.Thread(target=lambda: outcome.append(grid.submit(tasks())))
    submitting.start()
    stub.wait_for(lambda: any(session.chunks for session in stub.sessions.values()))
    (session_id,) = stub.sessions
    assert stub.sessions[session_id].state is SessionState.OPEN
    read_on.set()
    submitting.join()
    assert grid.attach(session_id).status().account.submitted == 3001


def test_a_long_stream_takes_bounded_memory(stub: StubGrid, grid: Grid) -> None:
    stub.forgetful = True  # lest the stub's own memory be measured
    grid.submit(range(10)).status()

    def events(count: int) -> Iterator[dict[str, str]]:
        for i in range(count):
            yield {"payload": f"{i * 7919 % 1_000_003:0>10000}"}

    gc.collect()
    tracemalloc.start()
    grid.submit(events(10_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * 1024 * 1024, f"{peak:,} bytes for a stream of 100 MB"
