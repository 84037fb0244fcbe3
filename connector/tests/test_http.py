"""Requests are repeated with growing random waits, until a limit."""

import asyncio
import gzip
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest
from connector.tests.stub_grid import Answer, StubGrid
from connector.tests.stub_http import refusal
from hypothesis import given
from hypothesis import strategies as st
from tests.support.hostile import MIB, at_most

from htcgrid import GridUnavailable, GridUnreachable, ResultsUnavailable
from htcgrid._aio.backoff import RetryDelay
from htcgrid._transport.api import Api
from htcgrid._transport.http import (
    Http,
    Patience,
    is_loopback,
)

if TYPE_CHECKING:
    from htcgrid._transport.tokens import Tokens


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def patience(self, limit: float) -> Patience:
        backoff = RetryDelay(timedelta(seconds=0.1), timedelta(seconds=5), random=lambda: 1.0)
        return Patience(limit=timedelta(seconds=limit), backoff=backoff, clock=self.clock, sleep=self.sleep)


@pytest.fixture
def time() -> Time:
    return Time()


def get(url: str, patience: Patience) -> int:
    async def scenario() -> int:
        http = Http(patience)
        try:
            return (await http.send("GET", url)).status_code
        finally:
            await http.close()

    return asyncio.run(scenario())


def test_busy_answers_and_broken_connections_are_tried_again(stub: StubGrid, time: Time) -> None:
    stub.payloads["/thing"] = b"here"
    stub.fail("GET /thing", Answer(503), Answer(429), Answer(0), Answer(500))
    assert get(f"{stub.url}/thing", time.patience(60)) == 200
    assert time.slept == pytest.approx([0.1, 0.2, 0.4, 0.8])


def test_a_limit_that_was_reached_is_waited_for_and_told(
    stub: StubGrid, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    stub.payloads["/thing"] = b"here"
    limit = refusal(429, "QuotaExceeded")
    limit.headers["Retry-After"] = "10"
    stub.fail("GET /thing", limit, limit)
    assert get(f"{stub.url}/thing?X-Amz-Signature=secret", time.patience(60)) == 200
    assert time.slept == pytest.approx([10, 10])
    assert [record.getMessage() for record in caplog.records if record.name.startswith("htcgrid")] == [
        f"GET {stub.url}/thing is sent again in 10 s: The grid says QuotaExceeded."
    ]


def test_a_limit_is_waited_for_no_longer_than_any_request(stub: StubGrid, time: Time) -> None:
    limit = refusal(429, "QuotaExceeded")
    limit.headers["Retry-After"] = "10"
    stub.fail("GET /thing", *[limit] * 3)
    with pytest.raises(GridUnavailable, match=r"429 .*: The grid says QuotaExceeded\.") as failure:
        get(f"{stub.url}/thing", time.patience(25))
    assert time.slept == pytest.approx([10, 10])
    assert failure.value.retryable
    stub.fail("GET /thing", Answer(429, headers={"Retry-After": "90000"}))
    with pytest.raises(GridUnavailable, match="try again later"):
        get(f"{stub.url}/thing", time.patience(25))


def test_a_refusal_is_not_tried_again(stub: StubGrid, time: Time) -> None:
    assert get(f"{stub.url}/no-such-thing", time.patience(60)) == 404
    assert time.slept == []


def test_the_grid_may_say_how_long_to_wait(stub: StubGrid, time: Time) -> None:
    stub.payloads["/thing"] = b"here"
    stub.fail("GET /thing", Answer(429, headers={"Retry-After": "7"}), Answer(503, headers={"Retry-After": "soon"}))
    assert get(f"{stub.url}/thing", time.patience(60)) == 200
    assert time.slept == pytest.approx([7, 0.2])


@pytest.mark.parametrize("coding", [{}, {"Content-Encoding": "gzip"}])
def test_no_more_of_a_payload_is_read_than_it_can_have(stub: StubGrid, time: Time, coding: dict[str, str]) -> None:
    stub.fail(
        "GET /thing", Answer(200, gzip.compress(bytes(50_000_000)), headers=coding), Answer(503), Answer(200, b"x")
    )

    async def scenario() -> None:
        http = Http(time.patience(60))
        api = Api(stub.url, cast("Tokens", None), http)  # a presigned URL asks for no token
        try:
            with pytest.raises(ResultsUnavailable, match="more than the 1000 bytes"):
                await api.payloads.get(f"{stub.url}/thing", 1000)
            assert await api.payloads.get(f"{stub.url}/thing", 1) == b"x"
        finally:
            await http.close()

    with at_most(10 * MIB):
        asyncio.run(scenario())


def test_waiting_ends_at_the_limit(stub: StubGrid, time: Time) -> None:
    stub.fail("GET /thing", *[Answer(503)] * 100)
    with pytest.raises(GridUnavailable, match="answered 503"):
        get(f"{stub.url}/thing?X-Amz-Signature=secret", time.patience(10))
    assert sum(time.slept) <= 10
    assert len(time.slept) == 6


def test_nobody_there_names_the_place_without_its_query(time: Time) -> None:
    with pytest.raises(GridUnreachable, match=r"http://127.0.0.1:1/thing: ") as told:
        get("http://127.0.0.1:1/thing?X-Amz-Signature=secret", time.patience(1))
    assert "secret" not in str(told.value)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_are_random_up_to_a_bound_that_doubles(failures: int, part: float) -> None:
    backoff = RetryDelay(timedelta(seconds=0.1), timedelta(seconds=5), random=lambda: part)
    assert backoff.seconds(failures) == pytest.approx(part * min(5, 0.1 * 2 ** min(failures - 1, 10)))


def test_only_this_machine_is_loopback() -> None:
    assert is_loopback("http://127.0.0.1:4566/x")
    assert is_loopback("ws://localhost/")
    assert not is_loopback("https://localhost.example.com")
