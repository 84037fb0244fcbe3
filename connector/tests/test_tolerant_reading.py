"""A grid of a later release may answer and push more than this client knows."""

import json
from typing import Any

import pytest
from connector.tests.stub_grid import Answer, StubGrid

from htcgrid import Grid, SessionState
from htcgrid_events import Contract

LATER = {"of_a_later_release": {"x": [1]}}


def with_more(value: Any) -> Any:
    """The value with a further field in every object that lies in it."""
    if isinstance(value, dict):
        return {name: with_more(item) for name, item in value.items()} | LATER
    return [with_more(item) for item in value] if isinstance(value, list) else value


def test_an_answer_may_hold_more_fields(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    known = json.loads(stub.sessions[session.id].status().model_dump_json())
    stub.fail(f"GET /api/sessions/{session.id}$", Answer(200, json.dumps(with_more(known)).encode()))
    assert session.status().state is SessionState.RUNNING
    info = json.loads(grid.info().model_dump_json())
    stub.fail("GET /api/grid", Answer(200, json.dumps(with_more(info)).encode()))
    assert grid.info().version == info["version"]


class LaterFrame:
    """A frame with further fields."""

    def __init__(self, frame: Contract) -> None:
        self._frame = frame

    def model_dump_json(self, **options: Any) -> str:
        return json.dumps(with_more(json.loads(self._frame.model_dump_json(**options))))


def test_a_push_may_hold_more_fields(stub: StubGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    send = stub.push.send
    monkeypatch.setattr(stub.push, "send", lambda subscribers, frame: send(subscribers, LaterFrame(frame)))  # type: ignore[arg-type]
    with Grid.connect(stub.profile(), notifications="websocket") as grid:
        session = grid.submit(range(3))
        stub.run(session.id, lambda event: event)
        assert session.results(timeout=60) == [0, 1, 2]
        assert session.wait(timeout=60).state is SessionState.COMPLETED
    assert stub.count("/outcomes") == 0  # all came by push
