"""The function that counts task events: which messages of a batch come again."""

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tests.support.control_plane_harness import TENANT, Harness

from htcgrid_controlplane import observability
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_events import Account, ChunkFinished, ChunksFrame, RedriveTasks, TasksRetrying, new_id

_APP = Path(__file__).resolve().parents[2] / "functions/completions/app.py"


@pytest.fixture
def function(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(observability.metrics.provider, "namespace", "HTCGrid")
    monkeypatch.setattr(observability.metrics.provider, "service", "htcgrid")
    monkeypatch.setattr(observability, "control_plane", lambda: harness.grid)
    spec = importlib.util.spec_from_file_location("completions_app", _APP)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def process(function: ModuleType, *bodies: str) -> list[int]:
    """Which of these messages are to come again."""
    records = [{"messageId": str(place), "body": body, "eventSource": "aws:sqs"} for place, body in enumerate(bodies)]
    context = SimpleNamespace(
        function_name="f", memory_limit_in_mb=1, invoked_function_arn="arn", aws_request_id="r"
    )  # fmt: skip
    answer: dict[str, Any] = function.handler({"Records": records}, context)
    return sorted(int(failure["itemIdentifier"]) for failure in answer["batchItemFailures"])


def test_a_message_fails_with_its_session_and_costs_no_other_anything(harness: Harness, function: ModuleType) -> None:
    first, second = harness.create(1, 1), harness.create(1)
    bodies = [
        ChunkFinished(session_id=session.session_id, outcome=outcome).to_json()
        for session, chunks in ((first, {0: "C", 1: "F"}), (second, {0: "C"}))
        for outcome in harness.finish(session, chunks)
    ]
    gone = ChunkFinished(session_id=new_id(), outcome=harness.row(second).outcome()).to_json()
    # The same text twice: each message has an answer of its own.
    assert process(function, bodies[0], gone, "no event", bodies[1], "no event", bodies[2], gone) == [1, 2, 4, 6]
    assert harness.read(first).all_finished
    assert harness.read(second).all_finished


def test_what_is_final_beside_a_retry_is_told_at_once_and_counted_with_its_chunk(
    harness: Harness, function: ModuleType
) -> None:
    session = harness.create(5, subscriber_id=harness.connect("one"), publish_outcomes=True)
    harness.events()
    [event] = harness.retry(session, {0: "CCQFC"})
    harness.clock.advance(3)
    assert process(function, event.to_json()) == []
    [frame] = harness.push.frames["one"]
    assert isinstance(frame, ChunksFrame)
    [told] = frame.partial
    assert (frame.outcomes, told.outcomes, told.results) == ((), "CCQFC", harness.row(session).results.data)
    assert told.stages.notified_at == harness.clock()
    assert [published for _, published in harness.notifications()] == [frame]
    [(name, detail)] = harness.events()
    assert (name, TasksRetrying.model_validate(detail)) == ("Tasks Retrying", event)
    status = harness.grid.queries.status(harness.read(session))
    assert status.account == Account(submitted=5)
    [outcome] = harness.finish(session, {0: "CCCFC"})
    finished = ChunkFinished(session_id=session.session_id, outcome=outcome).to_json()
    assert process(function, event.to_json(), finished, event.to_json()) == []
    assert harness.grid.queries.status(harness.read(session)).account == Account(submitted=5, completed=4, failed=1)
    assert [len(each.partial) for each in harness.push.frames["one"] if isinstance(each, ChunksFrame)] == [1, 0]
    assert process(function, event.to_json()) == []
    assert len(harness.push.frames["one"]) == 2  # all of it has been counted and told


def test_a_late_retry_tells_nothing_that_a_redrive_has_outdated(harness: Harness, function: ModuleType) -> None:
    session = harness.create(3, subscriber_id=harness.connect("one"))
    [before] = harness.retry(session, {0: "CFQ"})
    harness.record(session, harness.finish(session, {0: "CFC"}))
    harness.grid.dead_letters.record(session.session_id, 0)
    harness.grid.lifecycle.end(session.session_id, EndReason.DONE)
    assert harness.grid.redrives.redrive(TENANT, session.session_id, RedriveTasks(events={})).tasks == 1
    harness.push.frames.clear()
    assert process(function, before.to_json()) == []
    [frame] = harness.push.frames["one"]
    assert isinstance(frame, ChunksFrame)
    assert [each.outcomes for each in frame.partial] == ["CQC"]


def test_a_retry_beside_which_nothing_is_final_is_pushed_to_nobody(harness: Harness, function: ModuleType) -> None:
    session = harness.create(2, subscriber_id=harness.connect("one"))
    [event] = harness.retry(session, {0: "QQ"})
    assert process(function, event.to_json()) == []
    assert harness.push.frames["one"] == []


def test_a_batch_that_is_well_comes_no_more(harness: Harness, function: ModuleType) -> None:
    session = harness.create(1)
    [outcome] = harness.finish(session, {0: "C"})
    body = ChunkFinished(session_id=session.session_id, outcome=outcome).to_json()
    assert process(function, body, body) == []
