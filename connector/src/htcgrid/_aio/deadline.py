"""Time limits on what is waited for."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from htcgrid.errors import WaitTimeout

_T = TypeVar("_T")


class Deadline:
    """The end of a time limit that begins now; there may be none."""

    def __init__(self, seconds: float | None) -> None:
        self._ends = None if seconds is None else time.monotonic() + seconds

    async def bound(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The outcome of `work`. Raises `WaitTimeout` when the limit passes before."""
        left = None if self._ends is None else max(0.0, self._ends - time.monotonic())
        limit = asyncio.timeout(left)
        try:
            async with limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
            raise WaitTimeout(
                "the timeout passed before the session was done; it goes on, and can be waited for again"
            ) from None
