"""Nothing is lost and nothing is doubled, whatever dies and however the network behaves."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from agent.tests.embedded import Embedded, until
from agent.tests.harness import TENANT, AgentProcess, Place, Session, place_at
from agent.tests.proxy import Fate, Network, Request, flaky, network

from htcgrid_chunks.clock import system_clock
from htcgrid_chunks.lease_rules import GIVE_UP_AFTER
from htcgrid_chunks.store import Claim
from htcgrid_events import FailureKind

LARGE = {"do": "large", "bytes": 40_000}


@pytest.fixture
def net(place: Place) -> Iterator[Network]:
    """The network that the agents of this test use."""
    with network(place.embedded.url, place.embedded.elsewhere) as net:
        place.endpoint = net.url
        yield net


class Moment:
    """The first request of a name that is made, or has been answered: it waits until the test has acted."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._first = threading.Lock()
        self.reached = threading.Event()
        self.passed = threading.Event()

    def before(self, request: Request) -> Fate:
        self._hold(request)
        return Fate.PASS

    def after(self, request: Request) -> None:
        self._hold(request)

    def _hold(self, request: Request) -> None:
        if request.name == self._name and self._first.acquire(blocking=False):
            self.reached.set()
            self.passed.wait(30)


STAGES = [
    ("after", "ReceiveMessage"),
    ("before", "Claim"),
    ("after", "Claim"),
    ("before", "PutObject"),
    ("after", "PutObject"),
    ("before", "Finish"),
    ("after", "Finish"),
    ("before", "SendMessageBatch"),
    ("after", "SendMessageBatch"),
    ("before", "DeleteMessageBatch"),
    ("after", "DeleteMessageBatch"),
]


def hold(net: Network, when: str, name: str) -> Moment:
    moment = Moment(name)
    setattr(net, when, moment.before if when == "before" else moment.after)
    return moment


def check(place: Place, session: Session) -> None:
    """Every task has one outcome, and no message is left."""
    first, second = place.results(session)
    assert (first, len(second)) == (1, 40_000)
    until(place.is_clean)
    place.finished(session)
    row = place.row(session)
    assert (row.outcomes, row.finished) == ("CC", True)


def in_each_stage(embedded: Embedded, folder: Path, scenario: Callable[[Place, Network, Moment], None]) -> None:
    """Play a scenario for each stage, in a place of its own; they mostly wait, so several at a time."""

    def play(stage: tuple[str, str]) -> None:
        own = folder / "-".join(stage)
        own.mkdir()
        with place_at(embedded, own) as place, network(embedded.url, embedded.elsewhere) as net:
            place.endpoint = net.url
            scenario(place, net, hold(net, *stage))

    with ThreadPoolExecutor(4) as pool:
        plays = [(stage, pool.submit(play, stage)) for stage in STAGES]
    failures = [(stage, error) for stage, done in plays if (error := done.exception())]
    for stage, error in failures:
        error.add_note(f"at the stage {stage}")
    if failures:
        raise BaseExceptionGroup("stages that failed", [error for _, error in failures])


def test_an_agent_is_killed_at_any_stage(embedded: Embedded, tmp_path: Path) -> None:
    def scenario(place: Place, net: Network, moment: Moment) -> None:
        agent = place.agent(lease_seconds=3)
        session = place.submit([{"do": "echo", "value": 1}, LARGE])
        assert moment.reached.wait(60)
        agent.signal(signal.SIGKILL)
        agent.process.wait(60)
        moment.passed.set()
        until(lambda: not place.processes())
        place.agent(lease_seconds=3)
        check(place, session)

    in_each_stage(embedded, tmp_path, scenario)


def kill_workers(agent: AgentProcess) -> None:
    workers = agent.workers
    assert workers
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()


def test_workers_are_killed_at_any_stage(embedded: Embedded, tmp_path: Path) -> None:
    def scenario(place: Place, net: Network, moment: Moment) -> None:
        agent = place.agent()
        session = place.submit([{"do": "echo", "value": 1}, LARGE])
        assert moment.reached.wait(60)
        kill_workers(agent)
        moment.passed.set()
        check(place, session)
        # The agent has not lost the chunk: if a task was hit, it was tried again.
        until(lambda: len(agent.workers) == 2)
        assert agent.process.poll() is None

    in_each_stage(embedded, tmp_path, scenario)


def test_an_agent_and_its_workers_are_killed_at_any_stage(embedded: Embedded, tmp_path: Path) -> None:
    def scenario(place: Place, net: Network, moment: Moment) -> None:
        agent = place.agent(lease_seconds=3)
        session = place.submit([{"do": "echo", "value": 1}, LARGE])
        assert moment.reached.wait(60)
        kill_workers(agent)
        agent.signal(signal.SIGKILL)
        agent.process.wait(60)
        moment.passed.set()
        until(lambda: not place.processes())
        place.agent(lease_seconds=3)
        check(place, session)

    in_each_stage(embedded, tmp_path, scenario)


def test_an_agent_is_told_to_stop_at_any_stage(embedded: Embedded, tmp_path: Path) -> None:
    def scenario(place: Place, net: Network, moment: Moment) -> None:
        # A long poll cannot be called back: what it takes after the end is shown again when the lease is over.
        agent = place.agent(lease_seconds=5)
        session = place.submit([{"do": "echo", "value": 1}, LARGE])
        assert moment.reached.wait(60)
        agent.signal(signal.SIGTERM)
        until(lambda: agent.said("the agent stops"))
        moment.passed.set()
        assert agent.process.wait(60) == 0
        place.agent(lease_seconds=5)
        check(place, session)

    in_each_stage(embedded, tmp_path, scenario)


@pytest.mark.parametrize("victims", ["worker", "both"])
def test_worker_and_agent_are_killed_in_the_task(place: Place, tmp_path: Path, victims: str) -> None:
    agent = place.agent(lease_seconds=3)
    note, gate = tmp_path / "note", tmp_path / "gate"
    session = place.submit([{"do": "wait", "until": str(gate), "note": str(note), "value": 1}, LARGE])
    until(note.exists)
    for worker in agent.workers:
        worker.kill()
    if victims == "both":
        agent.signal(signal.SIGKILL)
        agent.process.wait(60)
        place.agent(lease_seconds=3)
    gate.touch()
    check(place, session)


@pytest.mark.parametrize("name", ["Claim", "Finish", "SendMessageBatch", "DeleteMessageBatch", "PutObject"])
def test_a_lost_answer_changes_nothing(place: Place, net: Network, name: str) -> None:
    lost = threading.Lock()

    def before(request: Request) -> Fate:
        return Fate.RESET if request.name == name and lost.acquire(blocking=False) else Fate.PASS

    net.before = before
    place.agent(lease_seconds=60)
    session = place.submit([{"do": "echo", "value": 1}, LARGE])
    check(place, session)
    assert place.row(session).attempt == 1
    assert net.count(name) >= 2


@pytest.mark.parametrize("seed", range(3))
def test_a_bad_network_only_delays(place: Place, net: Network, seed: int) -> None:
    net.before = flaky(0.3, seed)
    for _ in range(2):
        place.agent(lease_seconds=3)
    session = place.submit(*([{"do": "echo", "value": [chunk, task]} for task in range(3)] for chunk in range(20)))
    assert place.results(session, within=60) == [[chunk, task] for chunk in range(20) for task in range(3)]
    net.before = flaky(0.0, seed)
    until(place.is_clean, 60)
    place.finished(session)


def test_an_agent_outlives_an_outage(place: Place, net: Network) -> None:
    # What the broken long polls still take is shown again after so long.
    agent = place.agent(lease_seconds=3)
    assert place.results(place.submit([{"do": "echo", "value": 0}])) == [0]
    net.cut()
    until(lambda: agent.said("sqs kept failing"))
    net.before = lambda request: Fate.PASS
    session = place.submit([{"do": "echo", "value": 1}, LARGE])
    check(place, session)
    assert agent.process.poll() is None


def test_a_long_chunk_does_not_start_over(place: Place, tmp_path: Path) -> None:
    agent = place.agent(lease_seconds=3, workers=1)
    done, note, gate = tmp_path / "done", tmp_path / "note", tmp_path / "gate"
    session = place.submit(
        [
            LARGE | {"note": str(done)},
            {"do": "raise_once", "note": str(tmp_path / "tries")},
            {"do": "wait", "until": str(gate), "note": str(note), "value": "last"},
        ],
        max_retries=1,
    )
    until(note.exists)
    until(lambda: place.row(session).outcomes == "CQQ")
    assert place.row(session).tries == {1: 1}
    agent.signal(signal.SIGKILL)
    agent.process.wait(60)
    gate.touch()
    place.agent(lease_seconds=3)
    large, second, last = place.results(session)
    assert (len(large), second, last) == (40_000, "second try", "last")
    assert len(done.read_text().splitlines()) == 1


def test_heartbeats_go_on_while_results_are_uploaded(place: Place, net: Network) -> None:
    moment = hold(net, "before", "PutObject")
    place.agent(lease_seconds=3)
    session = place.submit([{"do": "echo", "value": 1}, LARGE])
    assert moment.reached.wait(60)
    place.agent(lease_seconds=3)
    beats = net.count("Extend")
    until(lambda: net.count("Extend") > beats + 4)
    moment.passed.set()
    check(place, session)
    assert place.row(session).attempt == 1


def test_a_task_that_kills_its_agents_is_found_and_fails_alone(place: Place, tmp_path: Path) -> None:
    notes = [tmp_path / str(number) for number in range(3)]
    session = place.submit(
        [
            {"do": "echo", "value": 0, "note": str(notes[0])},
            {"do": "kill_agent", "note": str(notes[1])},
            {"do": "echo", "value": 2, "note": str(notes[2])},
        ],
        max_retries=0,
    )

    def finished() -> bool:
        # As Kubernetes does.
        if not place.agents or place.agents[-1].process.poll() is not None:
            place.agent(lease_seconds=3, workers=3, sandbox="folder")
        return bool(place.events_of(session))

    until(finished, 60)
    zero, error, two = place.results(session)
    assert (zero, error.kind, error.type, two) == (0, FailureKind.LOST, "Agent.Lost", 2)
    # Twice by accident, as far as anybody could tell, and once on trial.
    assert len(notes[1].read_text().splitlines()) == 3
    until(place.is_clean)


def test_a_chunk_over_which_agents_die_before_they_run_any_task_is_given_up(place: Place, tmp_path: Path) -> None:
    note = tmp_path / "note"
    session = place.submit([{"do": "echo", "value": 0}, {"do": "echo", "value": 1, "note": str(note)}], max_retries=9)
    now = system_clock()
    for attempt in range(GIVE_UP_AFTER + 1):
        [(accepted, _)] = place.store.claim(
            [Claim(session.key(0), f"dead-{attempt}", now, now, "message", now, TENANT)]
        )
        assert accepted
    place.agent()
    errors = place.results(session)
    assert {(error.kind, error.type) for error in errors} == {(FailureKind.LOST, "Agent.Lost")}
    assert f"{GIVE_UP_AFTER + 1} attempts" in errors[0].message
    assert not note.exists()
    until(place.is_clean)


def test_a_chunk_on_trial_is_handed_back_without_blame(place: Place, tmp_path: Path) -> None:
    note, gate = tmp_path / "note", tmp_path / "gate"
    session = place.submit([{"do": "wait", "until": str(gate), "note": str(note), "value": 1}], max_retries=0)
    for _ in range(2):
        agent = place.agent(lease_seconds=3)
        until(lambda: place.row(session).attempt == len(place.agents))
        agent.signal(signal.SIGKILL)
        agent.process.wait(60)
    trial = place.agent(lease_seconds=3, grace_seconds=0)
    until(lambda: place.row(session).tries == {0: 1})
    assert trial.end() == 0
    row = place.row(session)
    assert (row.tries, row.returned, row.outcomes) == ({0: 0}, 3, "Q")
    gate.touch()
    place.agent(lease_seconds=3)
    assert place.results(session) == [1]
