"""The function that counts task events: which messages of a batch come again."""

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tests.support.control_plane_harness import Harness

from htcgrid_controlplane import observability
from htcgrid_events import ChunkFinished, new_id

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


def test_a_batch_that_is_well_comes_no_more(harness: Harness, function: ModuleType) -> None:
    session = harness.create(1)
    [outcome] = harness.finish(session, {0: "C"})
    body = ChunkFinished(session_id=session.session_id, outcome=outcome).to_json()
    assert process(function, body, body) == []
