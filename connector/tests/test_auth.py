"""Signing in, and staying signed in without a word."""

import asyncio
from dataclasses import replace

import pytest
from connector.tests.stub_grid import PASSWORD, USER, Answer, StubGrid

from htcgrid import AuthenticationFailed, Grid, GridUnavailable, GridUnreachable, UnexpectedAnswer
from htcgrid._transport.tokens import (
    Grant,
    Tokens,
)


def test_a_wrong_password_shows_at_once(stub: StubGrid) -> None:
    with pytest.raises(AuthenticationFailed, match="does not know this user, or the password is wrong") as told:
        Grid.connect(stub.profile(), username=USER, password="wrong")
    assert not told.value.retryable
    assert "wrong-" not in str(told.value)


def test_the_user_given_goes_before_the_profiles(stub: StubGrid) -> None:
    with Grid.connect(stub.profile(username="nobody", password="x"), username=USER, password=PASSWORD):
        assert stub.signed_in == 1


def test_without_a_user_nobody_is_asked(stub: StubGrid) -> None:
    with pytest.raises(AuthenticationFailed, match="a user name and a password are needed"):
        Grid.connect(stub.profile(username=None))
    assert stub.requests == []


@pytest.mark.parametrize("given", [{"password": ""}, {"username": ""}])
def test_an_empty_user_or_password_is_not_replaced_by_the_profiles(stub: StubGrid, given: dict[str, str]) -> None:
    with pytest.raises(AuthenticationFailed, match="neither of them empty"):
        Grid.connect(stub.profile(), username=given.get("username"), password=given.get("password"))
    assert stub.requests == []


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, b'{"__type":"ResourceNotFoundException"}', "has no client 'client' that allows sign-in by password"),
        (400, b'{"__type":"x#PasswordResetRequiredException"}', "must first confirm the account or set a new password"),
        (200, b'{"ChallengeName":"NEW_PASSWORD_REQUIRED"}', r"more than a password \(NEW_PASSWORD_REQUIRED\)"),
    ],
)
def test_what_hinders_signing_in_is_said(stub: StubGrid, status: int, body: bytes, said: str) -> None:
    stub.fail("POST /$", Answer(status, body))
    with pytest.raises(AuthenticationFailed, match=said):
        Grid.connect(stub.profile())


def test_what_is_no_user_pool_is_told(stub: StubGrid) -> None:
    stub.fail("POST /$", Answer(200, b"<html>hello</html>"))
    with pytest.raises(UnexpectedAnswer, match="is no Cognito user pool"):
        Grid.connect(stub.profile())


def test_a_throttled_sign_in_is_repeated(stub: StubGrid) -> None:
    stub.fail("POST /$", *[Answer(400, b'{"__type":"TooManyRequestsException"}')] * 2)
    with Grid.connect(stub.profile()):
        assert stub.count("POST /$") == 3


def test_a_grid_that_is_not_there_is_named(stub: StubGrid) -> None:
    with pytest.raises(GridUnreachable, match=r"cannot be reached at http://127.0.0.1:1/: ") as told:
        Grid.connect(stub.profile(aws_endpoint_url="http://127.0.0.1:1/"), request_timeout=0.1)
    assert told.value.retryable


@pytest.mark.parametrize("local", [True, False])
def test_a_local_grid_that_is_down_says_how_to_start_it(
    stub: StubGrid, monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    nowhere = "http://127.0.0.1:1/"
    monkeypatch.setattr("htcgrid._transport.cognito._regional_url", lambda _region: nowhere)
    with pytest.raises(GridUnreachable) as told:
        Grid.connect(stub.profile(aws_endpoint_url=nowhere if local else None), request_timeout=0.1)
    assert str(told.value).endswith("; is the local grid up? start it with `htcgrid local up`") == local


def test_a_refused_token_is_replaced_once(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    stub.expire_tokens()
    assert session.status().account.submitted == 1
    assert (stub.signed_in, stub.refreshed) == (1, 1)


def test_a_token_that_is_refused_again_is_an_error(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    stub.fail("GET /api/", *[Answer(401, b'{"message":"Unauthorized"}')] * 2)
    with pytest.raises(AuthenticationFailed, match="does not accept the user's token"):
        session.status()


def test_requests_that_are_refused_together_renew_once(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit(range(600), chunk_size=1)
    stub.run(session.id, lambda event: event)
    with Grid.connect(stub.profile()) as other:
        again = other.attach(session.id)
        stub.expire_tokens()
        again.results(timeout=60)
    assert stub.refreshed == 1


def test_an_expired_refresh_token_is_followed_by_the_password(stub: StubGrid, grid: Grid) -> None:
    session = grid.submit([1])
    stub.expire_tokens()
    stub.fail("POST /$", Answer(400, b'{"__type":"NotAuthorizedException"}'))
    assert session.status().account.submitted == 1
    assert (stub.signed_in, stub.refreshed) == (2, 0)


def test_a_grid_that_stays_busy_says_so(stub: StubGrid) -> None:
    with Grid.connect(stub.profile(), request_timeout=0.2) as grid:
        session = grid.submit([1])
        stub.fail("GET /api/", *[Answer(503)] * 100)
        with pytest.raises(GridUnavailable, match=r"answered 503 to every attempt at GET http://.*: try again later"):
            session.status()


class Pool:
    """A user pool that counts."""

    def __init__(self, lifetime: float) -> None:
        self.grant = Grant("", lifetime, "refresh")
        self.asked = 0

    async def with_password(self, username: str, password: str) -> Grant:
        return self._next()

    async def with_refresh_token(self, refresh_token: str) -> Grant:
        return self._next()

    def _next(self) -> Grant:
        self.asked += 1
        return replace(self.grant, id_token=f"token {self.asked}")


@pytest.mark.parametrize(("lifetime", "renewed_at"), [(3600.0, 3480.0), (10.0, 5.0)])
def test_tokens_are_renewed_before_they_end(lifetime: float, renewed_at: float) -> None:
    now = 0.0

    async def scenario() -> None:
        nonlocal now
        tokens = Tokens(Pool(lifetime), USER, PASSWORD, clock=lambda: now)
        assert await tokens.current() == "token 1"
        now = renewed_at - 0.1
        assert await tokens.current() == "token 1"
        now = renewed_at
        assert await asyncio.gather(*[tokens.current() for _ in range(10)]) == ["token 2"] * 10

    asyncio.run(scenario())


def test_a_grant_shows_no_token() -> None:
    assert "token 1" not in repr(Grant("token 1", 1.0, "token 1"))
