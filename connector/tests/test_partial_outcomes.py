"""Tasks that are final in a chunk of which others are run again: told early, and each once."""

from collections.abc import Sequence

import pytest
from connector.tests.stub_grid import Failing, Handler, Retried, StubGrid
from hypothesis import given
from hypothesis import strategies as st

from htcgrid import Grid, SessionState, TaskFailed
from htcgrid._follow.collector import Collector
from htcgrid._follow.stream import _Arriving, _Ordered
from htcgrid.results import Arrival, Lost
from htcgrid_events import (
    Account,
    ChunkOutcome,
    ChunksFrame,
    Contract,
    PartialOutcome,
    SessionEndedFrame,
    Stages,
    new_id,
)


def double(event: object) -> object:
    assert isinstance(event, int)
    return event * 2


def retrying(*events: int) -> Handler:
    """Doubles all but these, which are to run again."""

    def handler(event: object) -> object:
        if event in events:
            raise Retried
        return double(event)

    return handler


def failing(*events: int) -> Handler:
    def handler(event: object) -> object:
        if event in events:
            raise Failing("no")
        return double(event)

    return handler


def test_results_in_order_come_up_to_the_task_that_is_run_again(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(10), chunk_size=5)
    results = session.iter_results(timeout=20)
    stub.run(session.id, retrying(2), [0])
    assert [next(results) for _ in range(2)] == [0, 2]
    stub.run(session.id, double)
    assert list(results) == [4, 6, 8, 10, 12, 14, 16, 18]
    assert session.results(timeout=20) == [2 * i for i in range(10)]


def test_futures_are_settled_early_and_a_map_goes_on(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(5), chunk_size=5)
    futures = session.futures()
    stub.run(session.id, retrying(0))
    assert [future.result(timeout=20) for future in futures[1:]] == [2, 4, 6, 8]
    assert not futures[0].done()
    stub.run(session.id, failing(0))
    assert isinstance(futures[0].exception(timeout=20), TaskFailed)
    stub.handler = retrying(3)
    mapped = grid.map(range(5), chunk_size=5)
    assert [next(mapped) for _ in range(3)] == [0, 2, 4]
    stub.handler = None
    stub.run(list(stub.sessions)[-1], double)
    assert list(mapped) == [6, 8]


def test_pushes_that_are_repeated_or_late_tell_nothing_twice(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(10), chunk_size=5)
    arriving = session.as_completed(timeout=20)
    stub.run(session.id, retrying(1, 3, 6, 7, 8, 9), repeat=2)
    seen = [next(arriving).index for _ in range(4)]
    stub.run(session.id, retrying(1, 6, 7, 8), repeat=2)
    seen += [next(arriving).index for _ in range(2)]
    late = stub.sessions[session.id].partial.copy()
    stub.run(session.id, failing(1), repeat=2)
    with stub.lock:
        stub.sessions[session.id].outcomes, kept = {}, stub.sessions[session.id].outcomes
    stub.sessions[session.id].partial = late
    stub.run(session.id, retrying(1, 6, 7, 8))
    stub.sessions[session.id].outcomes = kept
    seen += [task.index for task in arriving]
    assert sorted(seen) == list(range(10))
    assert session.wait(timeout=20).account == Account(submitted=10, completed=9, failed=1)


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("slim", [True, False])
def test_large_results_are_fetched_early_and_again_for_the_others(
    stub: StubGrid, grid: Grid, inline: bool, slim: bool
) -> None:
    stub.inline, stub.slim_pushes = inline, slim
    session = grid.submit(range(10), chunk_size=5)
    arriving = session.as_completed(timeout=20)
    stub.run(session.id, retrying(1, 7))
    early = {task.index: task.result for task in (next(arriving) for _ in range(8))}
    assert early == {i: 2 * i for i in range(10) if i not in (1, 7)}
    stub.run(session.id, double)
    assert {task.index: task.result for task in arriving} == {1: 2, 7: 14}
    assert session.results(timeout=20) == [2 * i for i in range(10)]


def test_whoever_was_not_connected_hears_of_them_at_the_end_of_the_chunk(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(5), chunk_size=5)
    arriving = session.as_completed(timeout=20)
    stub.push.losing = True
    stub.run(session.id, retrying(1))
    stub.drop_connections()
    stub.push.losing = False
    stub.wait_for(lambda: stub.push.opened == 2 and stub.connected)
    stub.run(session.id, double)
    assert sorted(task.index for task in arriving) == [0, 1, 2, 3, 4]


def test_whoever_asks_for_finished_chunks_hears_of_them_as_well(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(10), chunk_size=5)
    stub.run(session.id, retrying(1))
    stub.run(session.id, double, [1])
    with Grid.connect(stub.profile(), notifications="poll") as other:
        arriving = other.attach(session.id).as_completed(timeout=20)
        assert sorted(next(arriving).index for _ in range(9)) == [0, 2, 3, 4, 5, 6, 7, 8, 9]
        assert len(other.attach(session.id).timeline()) == 5  # of chunks that have finished
        stub.run(session.id, double)
        assert [task.index for task in arriving] == [1]


def test_a_chunk_that_finishes_after_its_tasks_were_told_is_still_asked_for(stub: StubGrid, grid: Grid) -> None:
    """Tasks that are told early are not in the account: other chunks may have finished meanwhile."""
    session = grid.submit(range(10), chunk_size=5)
    arriving = session.as_completed(timeout=20)
    stub.run(session.id, retrying(0), [0])
    assert sorted(next(arriving).index for _ in range(4)) == [1, 2, 3, 4]
    stub.push.losing = True
    stub.run(session.id, double, [1])
    stub.drop_connections()
    stub.wait_for(lambda: stub.push.opened == 2 and stub.connected)
    assert sorted(next(arriving).index for _ in range(5)) == [5, 6, 7, 8, 9]
    stub.push.losing = False
    stub.run(session.id, double)
    assert [task.index for task in arriving] == [0]


def test_a_grid_of_an_earlier_release_tells_of_finished_chunks_alone(
    stub: StubGrid, grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = stub.push.send

    def send_finished(subscribers: set[str], frame: Contract) -> None:
        if not isinstance(frame, ChunksFrame) or frame.outcomes:
            send(subscribers, frame)

    monkeypatch.setattr(stub.push, "send", send_finished)
    session = grid.submit(range(5), chunk_size=5)
    stub.run(session.id, retrying(1))
    stub.run(session.id, double)
    assert session.results(timeout=20) == [2 * i for i in range(5)]
    assert session.wait(timeout=20).state is SessionState.COMPLETED


def outcome(chunk: int, first_task: int, letters: str, attempt: int) -> PartialOutcome:
    model = PartialOutcome if "Q" in letters else ChunkOutcome
    return model(
        chunk=chunk, first_task=first_task, outcomes=letters, attempt=attempt, agent="a", stages=Stages(), results=b"x"
    )


@st.composite
def attempts(draw: st.DrawFn, chunk: int, first_task: int) -> list[PartialOutcome]:
    """What is told of a chunk in its attempts, to the last: tasks become final one by one."""
    final = draw(st.text("CF", min_size=1, max_size=5))
    at = draw(st.lists(st.integers(0, 3), min_size=len(final), max_size=len(final)))
    told = ["".join(code if n <= attempt else "Q" for code, n in zip(final, at, strict=True)) for attempt in range(4)]
    return [outcome(chunk, first_task, letters, attempt) for attempt, letters in enumerate(told)]


@st.composite
def histories(draw: st.DrawFn) -> list[list[PartialOutcome]]:
    made: list[list[PartialOutcome]] = []
    first_task = 0
    for chunk in range(draw(st.integers(1, 4))):
        made.append(draw(attempts(chunk, first_task)))
        first_task += made[-1][0].size
    return made


class Reader:
    """Takes from a queue what there is, and keeps the letter of each task."""

    def __init__(self, queue: "_Arriving | _Ordered") -> None:
        self._queue = queue
        self.told: dict[int, str] = {}

    def read(self) -> None:
        while (slot := self._queue.next()) is not None:
            if isinstance(slot.part, Lost):
                letters = [(index, "lost") for index in slot.part.tasks]
            else:
                assert isinstance(slot.part, Arrival)
                found = slot.part.outcome
                letters = [(found.first_task + at, code) for at, code in enumerate(found.outcomes) if code != "Q"]
            assert letters
            for index, code in letters:
                assert index not in self.told
                self.told[index] = code


def readers(collector: Collector) -> tuple[Reader, Reader]:
    return Reader(_Arriving(collector)), Reader(_Ordered(collector))


def expected(chunks: Sequence[Sequence[PartialOutcome]]) -> dict[int, str]:
    return {last.first_task + at: code for *_, last in chunks for at, code in enumerate(last.outcomes)}


def end(collector: Collector, tasks: int) -> None:
    account = Account(submitted=tasks, completed=tasks)
    ended = SessionEndedFrame(session_id=collector.session_id, state="COMPLETED", account=account, ended_at=1)
    collector.end(ended)


@given(histories(), st.data())
def test_each_task_is_told_once_and_as_it_ends_whatever_comes_when(
    chunks: list[list[PartialOutcome]], data: st.DataObject
) -> None:
    final = expected(chunks)
    collector = Collector(new_id())
    arriving, ordered = readers(collector)
    events = [each for told in chunks for each in told]
    frames = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=6))))
    for frame in frames:
        collector.take([frame])
        if data.draw(st.booleans()):
            arriving.read()
            ordered.read()
        assert collector.finished_tasks <= len(final)
    collector.close(chunks=len(chunks), tasks=len(final))
    assert collector.complete
    arriving.read()
    ordered.read()
    assert arriving.told == ordered.told == final
    assert list(ordered.told) == sorted(final)
    assert collector.finished_tasks == collector.counted_tasks == len(final)
    assert collector.failed_tasks == list(final.values()).count("F")


@given(histories(), st.data())
def test_tasks_that_never_come_are_lost_and_those_that_were_told_are_not(
    chunks: list[list[PartialOutcome]], data: st.DataObject
) -> None:
    final = expected(chunks)
    collector = Collector(new_id())
    arriving, ordered = readers(collector)
    known: dict[int, str] = {}
    for told in chunks:
        some = data.draw(st.lists(st.sampled_from(told), max_size=2, unique_by=id))
        collector.take(some)
        for each in some:
            known |= {each.first_task + at: code for at, code in enumerate(each.outcomes) if code != "Q"}
    collector.close(chunks=len(chunks), tasks=len(final))
    arriving.read()
    ordered.read()
    end(collector, len(final))
    collector.give_up()
    arriving.read()
    ordered.read()
    assert arriving.told == {index: known.get(index, "lost") for index in final}
    assert ordered.told == arriving.told
