"""How an agent keeps itself and others from harm, and what it says of itself."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from agent.tests.embedded import free_ports, until
from agent.tests.harness import Place
from agent.tests.proxy import Fate, network
from hypothesis import given
from hypothesis import strategies as st

from htcgrid_agent.aws.breaker import (
    BreakerState,
    CircuitBreaker,
)
from htcgrid_agent.execution.quarantine import Quarantine
from htcgrid_agent.telemetry.metrics import (
    Metrics,
)
from htcgrid_agent.work.task import (
    Completed,
    Failed,
)
from htcgrid_chunks.backoff import Backoff
from htcgrid_chunks.state import ChunkState
from htcgrid_events import FailureKind


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: Clock, threshold: int = 3) -> CircuitBreaker:
    pause = Backoff(base=timedelta(seconds=10), cap=timedelta(seconds=40))
    return CircuitBreaker("test", threshold, pause, clock, random=lambda: 1.0)


def test_a_breaker_opens_after_failures_in_a_row() -> None:
    clock = Clock()
    made = breaker(clock)
    for _ in range(2):
        made.failed()
    made.succeeded()
    for _ in range(2):
        made.failed()
    assert made.allows()
    made.failed()
    assert made.state is BreakerState.OPEN
    assert not made.allows()
    assert made.seconds_left == 10


def test_after_a_pause_one_may_try_and_pauses_grow() -> None:
    clock = Clock()
    made = breaker(clock, threshold=1)
    for pause in (10, 20, 40, 40):
        made.failed()
        assert made.seconds_left == pause
        clock.now += pause
        assert made.state is BreakerState.HALF_OPEN
        assert made.allows()
        assert not made.allows()
    made.succeeded()
    assert made.state is BreakerState.CLOSED
    assert made.allows()
    assert made.allows()


def test_a_trial_that_never_ends_does_not_block_for_ever() -> None:
    clock = Clock()
    made = breaker(clock, threshold=1)
    made.failed()
    clock.now += 10
    assert made.allows()
    clock.now += 10
    assert made.allows()


@given(st.lists(st.booleans()))
def test_a_breaker_is_never_open_after_a_success(history: list[bool]) -> None:
    made = breaker(Clock())
    for good in history:
        if good:
            made.succeeded()
            assert made.state is BreakerState.CLOSED
        else:
            made.failed()


CRASH = Failed(FailureKind.CRASH, "Runtime.ExitError", "")
RAISED = Failed(FailureKind.HANDLER, "ValueError", "")
TIMEOUT = Failed(FailureKind.TIMEOUT, "Sandbox.Timedout", "")


def test_one_session_that_crashes_is_not_the_agents_fault() -> None:
    quarantine = Quarantine(after=3)
    for _ in range(100):
        quarantine.ended("a", CRASH)
        quarantine.ended("b", CRASH)
    assert not quarantine.active


def test_crashes_of_many_sessions_in_a_row_are() -> None:
    quarantine = Quarantine(after=3)
    quarantine.ended("a", CRASH)
    quarantine.ended("b", CRASH)
    quarantine.ended("b", TIMEOUT)
    quarantine.ended("c", CRASH)
    assert quarantine.active


@pytest.mark.parametrize("good", [Completed(b"1"), RAISED])
def test_whatever_ran_between_ends_the_row(good: Completed | Failed) -> None:
    quarantine = Quarantine(after=3)
    for session in "abacad":
        quarantine.ended(session, CRASH if session != "a" else good)
    assert not quarantine.active


def test_metrics_are_in_the_format_of_prometheus() -> None:
    metrics = Metrics()
    metrics.requests.labels("Receive", 'odd "name"\n').inc()
    metrics.task_seconds.observe(0.05)
    metrics.add_gauge("g", "A gauge.", "state", lambda: {"up": 1.5})
    metrics.add_gauge("h", "Another.", None, lambda: {"": 2})
    text = metrics.render()
    assert 'htcgrid_agent_requests_total{error="odd \\"name\\"\\n",operation="Receive"} 1.0\n' in text
    assert 'htcgrid_agent_task_seconds_bucket{le="0.1"} 1.0\n' in text
    assert 'htcgrid_agent_task_seconds_bucket{le="0.01"} 0.0\n' in text
    assert "htcgrid_agent_task_seconds_count 1.0\n" in text
    assert '# TYPE g gauge\ng{state="up"} 1.5\n' in text
    assert "\nh 2.0\n" in text
    assert "_created" not in text


def test_an_agent_whose_workers_crash_leaves_the_queue_to_others(place: Place) -> None:
    port = free_ports(1)
    agent = place.agent(quarantine_after=2, health_port=port)
    for _ in range(2):
        place.results(place.submit([{"do": "exit"}], max_retries=0))
    until(lambda: agent.said("quarantine"))
    # What a long poll still brings is handed back at once or run; what comes later is left alone.
    until(lambda: httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 503)
    assert httpx.get(f"http://127.0.0.1:{port}/live").status_code == 200
    assert "htcgrid_agent_quarantined 1.0\n" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    place.agent()
    session = place.submit([{"do": "echo", "value": 1}])
    assert place.results(session) == [1]


def test_an_agent_tells_how_it_fares(place: Place, tmp_path: Path) -> None:
    port = free_ports(1)
    base = f"http://127.0.0.1:{port}"
    agent = place.agent(health_port=port, workers=1)
    until(lambda: agent.said("the agent is up"))
    note, gate = tmp_path / "note", tmp_path / "gate"
    session = place.submit(
        [{"do": "wait", "until": str(gate), "note": str(note), "value": 1}, {"do": "raise"}], max_retries=0
    )
    until(note.exists)
    # Busy is ready.
    assert httpx.get(f"{base}/ready").text == "yes\n"
    assert httpx.get(f"{base}/busy").text == "1\n"
    text = httpx.get(f"{base}/metrics").text
    assert 'htcgrid_agent_workers{state="busy"} 1.0\n' in text
    assert 'htcgrid_agent_chunks{stage="running"} 1.0\n' in text
    assert "htcgrid_agent_waiting_tasks 1.0\n" in text
    assert 'htcgrid_agent_breaker_state{service="sqs"} 0.0\n' in text
    gate.touch()
    place.results(session)
    text = httpx.get(f"{base}/metrics").text
    assert 'htcgrid_agent_tasks_total{end="completed"} 1.0\n' in text
    assert 'htcgrid_agent_tasks_total{end="handler"} 1.0\n' in text
    assert 'htcgrid_agent_chunks_total{result="finished"} 1.0\n' in text
    assert 'htcgrid_agent_messages_total{queue="normal"} 1.0\n' in text
    until(lambda: httpx.get(f"{base}/busy").text == "0\n")
    assert httpx.get(f"{base}/other").status_code == 404


def test_an_agent_leaves_a_service_alone_that_keeps_failing(place: Place) -> None:
    port = free_ports(1)
    with network(place.embedded.url, place.embedded.elsewhere) as net:
        place.endpoint = net.url
        agent = place.agent(health_port=port, lease_seconds=3)
        until(lambda: agent.said("the agent is up"))
        net.before = lambda request: Fate.FAIL if request.name == "Claim" else Fate.PASS
        session = place.submit([{"do": "echo", "value": 1}])
        url = f"http://127.0.0.1:{port}/metrics"
        until(lambda: 'breaker_state{service="dynamodb"} 2' in httpx.get(url).text)
        # What cannot be claimed is not received either.
        received = net.count("ReceiveMessage")
        assert place.row(session).state is ChunkState.QUEUED
        until(lambda: 'breaker_state{service="dynamodb"} 2' not in httpx.get(url).text)
        assert net.count("ReceiveMessage") <= received + 3
        net.before = lambda request: Fate.PASS
        assert place.results(session, within=60) == [1]
        until(lambda: 'breaker_state{service="dynamodb"} 0' in httpx.get(url).text)


@contextmanager
def metadata_service(notice: threading.Event, left: timedelta) -> Iterator[str]:
    """What EC2 instances ask about themselves."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._answer(200, b"token")

        def do_GET(self) -> None:
            if self.headers["x-aws-ec2-metadata-token"] != "token":
                self._answer(401, b"")
            elif self.path == "/latest/meta-data/spot/instance-action" and notice.is_set():
                moment = (datetime.now(UTC) + left).strftime("%Y-%m-%dT%H:%M:%SZ")
                self._answer(200, json.dumps({"action": "terminate", "time": moment}).encode())
            else:
                self._answer(404, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response_only(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_spot_notice_ends_an_agent_in_time(place: Place, tmp_path: Path) -> None:
    notice = threading.Event()
    with metadata_service(notice, timedelta(seconds=6)) as url:
        agent = place.agent(
            watch_spot=True, workers=1, grace_seconds=600, lease_seconds=5, AWS_EC2_METADATA_SERVICE_ENDPOINT=url
        )
        note, gate = tmp_path / "note", tmp_path / "gate"
        session = place.submit(
            [{"do": "echo", "value": 0}, {"do": "wait", "until": str(gate), "note": str(note), "value": 1}]
        )
        until(note.exists)
        notice.set()
        assert agent.process.wait(60) == 0
    assert place.row(session).outcomes == "CQ"
    gate.touch()
    place.agent()
    assert place.results(session) == [0, 1]


def test_a_spot_notice_hastens_an_agent_that_has_been_told_to_stop(place: Place, tmp_path: Path) -> None:
    """Whoever drains the node may be faster than the agent's own look at the notice, and give it all its grace."""
    notice = threading.Event()
    with metadata_service(notice, timedelta(seconds=6)) as url:
        agent = place.agent(
            watch_spot=True, workers=1, grace_seconds=600, lease_seconds=5, AWS_EC2_METADATA_SERVICE_ENDPOINT=url
        )
        note = tmp_path / "note"
        session = place.submit(
            [{"do": "echo", "value": 0}, {"do": "wait", "until": str(tmp_path / "gate"), "note": str(note)}]
        )
        until(note.exists)
        agent.signal(signal.SIGTERM)
        until(lambda: agent.said("the agent stops"))
        notice.set()
        assert agent.process.wait(60) == 0
    assert place.row(session).outcomes == "CQ", "what has ended is kept, and the rest is handed back"


def test_sigterm_after_a_spot_notice_leaves_tasks_the_time_that_there_is(place: Place, tmp_path: Path) -> None:
    """The pod is deleted because of the same notice: that is no order to hurry."""
    notice = threading.Event()
    with metadata_service(notice, timedelta(minutes=10)) as url:
        note, gate = tmp_path / "note", tmp_path / "gate"
        session = place.submit([{"do": "wait", "until": str(gate), "note": str(note), "value": 1}])
        agent = place.agent(watch_spot=True, workers=1, grace_seconds=600, AWS_EC2_METADATA_SERVICE_ENDPOINT=url)
        until(note.exists)
        notice.set()
        until(lambda: agent.said("the agent stops"))
        agent.signal(signal.SIGTERM)
        until(lambda: agent.said("a signal says to stop"))
        assert agent.process.poll() is None
        gate.touch()
        assert agent.process.wait(60) == 0
    assert place.row(session).outcomes == "C"
    assert place.row(session).attempt == 1
