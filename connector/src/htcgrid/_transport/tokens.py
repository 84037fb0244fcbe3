"""Who asks: tokens of one user, renewed before they expire and without a word."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from htcgrid.errors import AuthenticationFailed

_RENEW_BEFORE_SECONDS = 120.0
"""How long before its end a token is renewed: longer than a request may wait on its way."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What the user pool gives to a user it knows."""

    id_token: str = field(repr=False)
    lifetime: float
    """Seconds."""
    refresh_token: str | None = field(repr=False, default=None)


class UserPool(Protocol):
    """Gives tokens. Every call raises `GridUnreachable` or `GridUnavailable` when the pool cannot be asked."""

    async def with_password(self, username: str, password: str) -> Grant:
        """Sign in. Raises `AuthenticationFailed` for a wrong user or password."""

    async def with_refresh_token(self, refresh_token: str) -> Grant:
        """A new token. Raises `AuthenticationFailed` when the refresh token has expired or was revoked."""


class Tokens:
    """The current token of one user."""

    def __init__(
        self, pool: UserPool, username: str, password: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = pool
        self._username = username
        self._password = password
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token = ""
        self._renew_at = float("-inf")
        self._refresh_token: str | None = None

    async def current(self) -> str:
        """A token that is good for a while.

        Raises:
            AuthenticationFailed: the user pool refuses the user.
            GridUnreachable: the user pool does not answer.
        """
        if self._clock() >= self._renew_at:
            async with self._lock:
                if self._clock() >= self._renew_at:  # else another request has renewed it meanwhile
                    await self._renew()
        return self._token

    async def instead_of(self, refused: str) -> str:
        """Another token than one that the grid refused. Raises as `current` does."""
        async with self._lock:
            if self._token == refused:
                await self._renew()
        return self._token

    async def _renew(self) -> None:
        grant = await self._ask()
        # Half the lifetime at most, so that short-lived tokens are not renewed at every request.
        self._renew_at = self._clock() + grant.lifetime - min(_RENEW_BEFORE_SECONDS, grant.lifetime / 2)
        self._token = grant.id_token
        self._refresh_token = grant.refresh_token or self._refresh_token

    async def _ask(self) -> Grant:
        if self._refresh_token is not None:
            try:
                return await self._pool.with_refresh_token(self._refresh_token)
            except AuthenticationFailed:
                self._refresh_token = None  # it has expired; the password still holds
        return await self._pool.with_password(self._username, self._password)
