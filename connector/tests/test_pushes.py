"""Results arrive once each, whatever happens to the push connection."""

import asyncio
import logging
from datetime import timedelta

import pytest
from connector.tests.stub_grid import Answer, StubGrid

from htcgrid import Grid, SessionState
from htcgrid._aio.backoff import RetryDelay
from htcgrid._notify.websocket import PushChannel
from htcgrid._transport.api import Api
from htcgrid_events import PushTicket


def double(event: object) -> object:
    assert isinstance(event, int)
    return event * 2


def test_a_broken_connection_loses_and_doubles_nothing(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(30), chunk_size=1)
    arriving = session.as_completed(timeout=60)
    stub.run(session.id, double, list(range(10)))
    seen = [next(arriving).index for _ in range(10)]
    stub.drop_connections()
    stub.run(session.id, double, list(range(10, 20)))  # while nobody listens
    seen += [next(arriving).index for _ in range(10)]
    stub.wait_for(lambda: stub.push.opened == 2 and stub.connected)
    stub.run(session.id, double, list(range(30)), repeat=3)
    seen += [task.index for task in arriving]
    assert sorted(seen) == list(range(30))
    assert session.notifications == "websocket"


def test_a_reconnection_keeps_the_subscriber(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    stub.drop_connections()
    stub.wait_for(lambda: stub.push.opened == 2)
    stub.run(session.id, double)
    assert session.results(timeout=60) == [2]
    assert len(stub.sessions[session.id].subscribers) == 1


def test_lost_pushes_are_found_at_the_verdict(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(5), chunk_size=1)
    stub.push.losing = True
    stub.run(session.id, double, [0, 1, 2])
    stub.push.losing = False
    stub.run(session.id, double, [3, 4])
    assert session.results(timeout=60) == [0, 2, 4, 6, 8]


def test_results_in_hand_do_not_wait_for_the_verdict(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    stub.keep_open = True
    stub.run(session.id, double)
    assert session.results(timeout=60) == [2]
    assert session.status().state is SessionState.RUNNING


def test_a_lost_verdict_is_asked_for(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    stub.keep_open = True
    stub.run(session.id, double)
    assert session.results(timeout=60) == [2]
    stub.keep_open, stub.push.losing = False, True
    stub.run(session.id, double)
    assert session.wait(timeout=60).state is SessionState.COMPLETED


@pytest.mark.parametrize("closed_port", [True, False])
def test_without_push_the_grid_is_asked(closed_port: bool, caplog: pytest.LogCaptureFixture) -> None:
    with StubGrid(push=False) as stub, Grid.connect(stub.profile()) as grid:
        if not closed_port:
            stub.fail("PUT /api/subscribers", *[Answer(403)] * 100)
        session = grid.submit(range(300), chunk_size=1)
        stub.run(session.id, double, list(range(0, 300, 2)))
        arriving = session.as_completed(timeout=60)
        seen = {next(arriving).index for _ in range(150)}
        stub.run(session.id, double)
        seen |= {task.index for task in arriving}
        assert seen == set(range(300))
        assert session.notifications == "poll"
        assert session.wait(timeout=60).state is SessionState.COMPLETED
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "no push connection to the grid, so it is asked for results instead: " in warnings[0].message


def test_a_session_submitted_without_push_is_followed_once_there_is_one(stub: StubGrid) -> None:
    stub.fail("PUT /api/subscribers", Answer(403))
    with Grid.connect(stub.profile()) as grid:
        session = grid.submit(range(2), chunk_size=1)
        assert not stub.sessions[session.id].subscribers
        stub.wait_for(lambda: stub.connected)
        arriving = session.as_completed(timeout=60)
        stub.run(session.id, double, [0])
        assert next(arriving).result == 0
        stub.run(session.id, double, [1])
        assert next(arriving).result == 2
        stub.wait_for(lambda: stub.count(f"PUT /api/sessions/{session.id}/subscribers") == 1)


def test_stored_results_are_fetched(stub: StubGrid, grid: Grid) -> None:
    stub.inline = False
    session = grid.submit(range(300), chunk_size=2)
    stub.run(session.id, double)
    assert session.results(timeout=60) == [2 * i for i in range(300)]
    assert stub.count("GET .*/outcomes") <= 8  # a page of links serves many chunks


def test_a_link_that_has_expired_is_replaced(stub: StubGrid, grid: Grid) -> None:
    stub.inline = False
    session = grid.submit(range(3), chunk_size=1)
    stub.run(session.id, double)
    with Grid.connect(stub.profile()) as other:
        again = other.attach(session.id)
        again.timeline()  # reads the outcomes with their links
        stub.fail("GET /out/", Answer(403), Answer(403))
        assert again.results(timeout=60) == [0, 2, 4]


def test_results_too_large_for_a_frame_come_through_the_api(stub: StubGrid, grid: Grid) -> None:
    stub.slim_pushes = True
    session = grid.submit(range(3), chunk_size=1)
    stub.run(session.id, double)
    assert session.results(timeout=60) == [0, 2, 4]


def test_tickets_and_signatures_are_never_logged(stub: StubGrid, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")  # which programs, and other tests, may have quietened
    stub.inline = False
    with Grid.connect(stub.profile()) as grid:
        session = grid.submit(["x" * 100_000 + str(list(range(50_000)))])
        stub.run(session.id, lambda event: event)
        session.results(timeout=60)
    logged = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("websockets."))
    assert "/in/" in logged
    for secret in ("secret", "ticket=", "right-Horse-7", "token-1", "xxxxxxxx"):
        assert secret not in logged


def test_an_idle_connection_is_kept_by_pings_and_a_dead_one_replaced(stub: StubGrid) -> None:
    class Tickets(Api):
        def __init__(self) -> None:
            """Without a grid."""

        async def push_ticket(self, subscriber_id: str) -> PushTicket:
            return stub.push.issue_ticket(subscriber_id)

    def channel_to_stub(pong_within: timedelta) -> PushChannel:
        return PushChannel(
            stub.profile().push_url,
            Tickets(),
            on_frame=lambda _frame: None,
            on_change=lambda: None,
            backoff=RetryDelay(timedelta(0), timedelta(0)),
            ping_every=timedelta(milliseconds=20),
            pong_within=pong_within,
        )

    async def idle() -> None:
        channel = channel_to_stub(pong_within=timedelta(minutes=5))
        channel.start()
        await asyncio.to_thread(stub.wait_for, lambda: stub.push.pings >= 3)
        assert (channel.epoch, stub.push.opened) == (1, 1)
        await channel.close()
        assert not channel.connected

    async def dead() -> None:
        stub.push.deaf = True
        channel = channel_to_stub(pong_within=timedelta(milliseconds=100))
        channel.start()
        await asyncio.to_thread(stub.wait_for, lambda: stub.push.opened >= 3)
        await channel.close()

    asyncio.run(idle())
    asyncio.run(dead())
