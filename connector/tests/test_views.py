"""What public objects show in a console and in a notebook: short, and harmless whatever a handler wrote."""

import re
from enum import Enum
from typing import Any
from xml.etree import ElementTree

import pytest
from connector.tests.stub_grid import Answer, Failing, StubGrid
from pydantic import ValidationError

import htcgrid
from htcgrid import Grid, GridExecutor, Profile, Session, SessionState
from htcgrid_events import (
    Account,
    CancelledSessions,
    ChunkOutcome,
    ChunkRecord,
    Contract,
    DataRecord,
    DataReference,
    DataState,
    DeadLetter,
    FailureKind,
    GridInfo,
    PushTicket,
    SessionStatus,
    SessionSummary,
    Stages,
    TaskInput,
    TaskRecord,
    UploadPlaces,
)
from htcgrid_events.views import Shown

HOSTILE = "\x1b]0;owned\x07<script>alert(1)</script>\u202e"


def fail_on_odd(event: Any) -> object:
    if event % 2:
        raise Failing(HOSTILE)
    return event


@pytest.fixture
def failed(stub: StubGrid, grid: Grid) -> Session:
    """A session of which one task has failed."""
    session = grid.submit(range(3))
    stub.run(session.id, fail_on_odd)
    session.wait(timeout=60)
    return session


def views_of(grid: Grid, session: Session) -> dict[str, Any]:
    status = session.status()
    letter = DeadLetter(
        chunk=1, fingerprint="0" * 16, kind=FailureKind.HANDLER, type=HOSTILE, message=HOSTILE, tasks=(1,), attempts=3,
        agent=HOSTILE, host=HOSTILE, recorded_at=1_795_757_195_988,
    )  # fmt: skip
    return {
        "Grid": grid,
        "Session": session,
        "SessionStatus": status,
        "Account": status.account,
        "SessionSummary": next(iter(grid.sessions())),
        "Progress": session.progress(),
        "Timeline": session.timeline(),
        "TaskRecord": session.task(1),
        "ChunkRecord": next(iter(session.chunks())),
        "DeadLetters": session.dead_letters(),
        "DeadLetter": letter,
        "GridInfo": GridInfo(
            version="1", region="eu-west-1", partitions=("default",), notification_topic="", tenant=HOSTILE, now=1
        ),
        "CancelledSessions": CancelledSessions(stopping=(session.id,)),
        "DataRecord": DataRecord(
            reference=DataReference(sha256="0" * 64, bytes=1, name="<script>alert(1)"),
            state=DataState.THERE,
            created_at=1,
            expires_at=1,
        ),
    }


def test_every_object_has_a_short_text_and_a_view(grid: Grid, failed: Session) -> None:
    for name, shown in views_of(grid, failed).items():
        text = repr(shown)
        assert text.startswith(f"<{name} "), text
        assert len(text) < 250, name
        assert text.isprintable(), name
        view = shown._repr_svg_() if name == "Timeline" else shown._repr_html_()
        ElementTree.fromstring(f"<div>{view}</div>")  # noqa: S314 - our own; it is well-formed
        assert "<script" not in view
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", view)


def test_every_public_object_has_a_short_text(stub: StubGrid, grid: Grid, failed: Session) -> None:
    error = failed.results(return_exceptions=True, timeout=20)[1]
    future, broken, _ = failed.futures()
    assert (future.result(timeout=20), type(broken.exception(timeout=20)).__name__) == (0, "TaskFailed")
    waiting = grid.submit([1]).futures()[0]
    attempt = htcgrid.Attempt(
        started_at=1_000, ended_at=2_500, agent=HOSTILE, kind=FailureKind.CRASH, type=HOSTILE, message="no memory " * 99
    )
    profile = stub.profile(password="open sesame").model_copy(update={"api_url": "http://ada:sesame@host:1/api"})
    shown = {
        "<Attempt of 1.5 s on ": attempt,
        f"<TaskFuture {failed.id}_0 finished>": future,
        f"<TaskFuture {failed.id}_1 failed: TaskFailed>": broken,
        f"<TaskFuture {waiting.task_id} running>": waiting,
        "<FinishedTask 7: {'x': [0, 1, 2, 3, 4, 5, ...]}>": htcgrid.FinishedTask(7, {"x": list(range(99))}),
        f"<FinishedTask 1: TaskFailed: task 1 of session {failed.id} failed": htcgrid.FinishedTask(1, error=error),
        "<TaskTimes of task 3: waited 2.000 s, ran 1.500 s>": htcgrid.TaskTimes(3, 1_000, 1, 1, 3_000, 4_500, 1),
        "<Profile of http://host:1/api for ada, with a password>": profile,
    }
    for begin, it in shown.items():
        text = repr(it)
        assert text.startswith(begin), text
        assert len(text) < 250, text
        assert text.isprintable(), text
        assert "sesame" not in text + str(it)


def test_no_public_name_has_the_text_of_a_dump() -> None:
    """That of `object` says nothing, those of a dataclass or a model say all: also what is secret or long."""
    for name in sorted(set(htcgrid.__all__) - {"JSON", "Notifications", "OnExit", "Order", "SubmitOptions"}):
        kind = getattr(htcgrid, name)
        if not issubclass(kind, Enum | BaseException):
            (home,) = [each for each in kind.__mro__ if "__repr__" in vars(each)][:1]
            assert home.__module__.startswith("htcgrid"), name
            assert home.__repr__.__qualname__.startswith(home.__name__), name


def test_no_text_of_an_object_holds_a_secret(stub: StubGrid) -> None:
    secret = "sesame" * 4
    for shown in (
        PushTicket(subscriber_id="0" * 32, ticket=secret, expires_at=1),
        UploadPlaces(urls={1: secret}, headers={}),
        TaskInput(index=0, line=0, lines=1, url=secret),
        ChunkOutcome(chunk=0, first_task=0, outcomes="C", attempt=1, agent="a", stages=Stages(), url=secret),
    ):
        assert secret not in repr(shown) + str(shown)
    with pytest.raises(ValidationError) as told:
        Profile.model_validate({"password": secret, "api_url": secret})
    assert secret not in str(told.value)


def test_every_public_record_has_a_view() -> None:
    public = {getattr(htcgrid, name) for name in htcgrid.__all__}
    records = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Contract)}
    assert records == {
        htcgrid.Attempt, Account, CancelledSessions, ChunkRecord, DataRecord, DeadLetter, GridInfo, SessionStatus,
        SessionSummary, TaskRecord,
    }  # fmt: skip
    assert all(issubclass(kind, Shown) for kind in records)


def test_the_texts_say_what_one_wants_to_know(stub: StubGrid, grid: Grid, failed: Session) -> None:
    assert repr(grid) == f"<Grid at {stub.url}/api for ada>"
    assert repr(failed) == f"<Session {failed.id} FAILED: 3 of 3 tasks known to be finished, 1 failed>"
    assert repr(failed.status()) == f"<SessionStatus {failed.id} FAILED: 2 of 3 tasks completed, 1 failed>"
    assert repr(failed.dead_letters()) == "<DeadLetters of 1 task, 1 letter>"
    assert repr(GridExecutor(grid)) == f"<GridExecutor on {grid!r}, session None>"
    assert str(failed.progress()) in repr(failed.progress())


def test_a_session_of_which_tasks_failed_is_red(stub: StubGrid, grid: Grid, failed: Session) -> None:
    assert "accent-color:#c62828" in failed._repr_html_()
    assert "1 failed</b>" in failed._repr_html_()
    well = grid.submit([2])
    stub.run(well.id, fail_on_odd)
    well.wait(timeout=60)
    assert "accent-color:#2e7d32" in well._repr_html_()


def test_moments_are_shown_as_dates(grid: Grid, failed: Session) -> None:
    assert "2026-11-27 05:26:35 UTC" in views_of(grid, failed)["DeadLetter"]._repr_html_()


def test_dead_letters_are_a_list(failed: Session) -> None:
    letters = failed.dead_letters()
    assert isinstance(letters, list)
    assert [letter.tasks for letter in letters] == [(1,)]
    assert letters._repr_html_().count("<tr>") == 2


def test_drawings_need_no_registration(failed: Session) -> None:
    assert "<svg" in failed.timeline().plot()._repr_svg_()
    assert failed.timeline()._repr_svg_().count("<rect") > 3


def test_the_status_is_not_behind_the_results(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([2])
    running = stub.sessions[session.id].status().model_copy(update={"state": SessionState.RUNNING})
    stub.run(session.id, fail_on_odd)
    assert session.results(timeout=60) == [2]
    stub.fail(f"GET /api/sessions/{session.id}$", Answer(200, running.model_dump_json().encode()))
    assert session.status().state is SessionState.COMPLETED
