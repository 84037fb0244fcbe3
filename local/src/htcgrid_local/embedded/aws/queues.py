"""Queues that answer at once: a receiver that waits is told of a message when it is sent, and need not look for it."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

from ministack.services import lambda_svc, sqs

_GAP_SECONDS = 0.005


def answer_at_once() -> None:
    """End long polls when a message comes, and look at what functions wait for as soon as something was sent.

    MiniStack looks ten times a second for the former, and after a look in vain rests for 50 ms before the latter.
    """
    bell = _Bell(sqs.esm_wake)
    sqs.esm_wake = bell
    sqs.asyncio = SimpleNamespace(iscoroutine=asyncio.iscoroutine, sleep=bell.sleep)
    lambda_svc._ESM_IDLE_WAKE_GAP_SECONDS = _GAP_SECONDS


class _Bell:
    """Rung by whoever sends, in any thread; heard by all who wait for messages in the event loop."""

    def __init__(self, mappings: threading.Event) -> None:
        self._mappings = mappings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    def set(self) -> None:
        """Wake everybody."""
        self._mappings.set()
        if self._loop and self._waiting:
            self._loop.call_soon_threadsafe(self._ring)

    async def sleep(self, seconds: float, *_: Any) -> None:
        """Wait for the bell, but no longer than this: messages also come back without a word."""
        self._loop = asyncio.get_running_loop()
        future = self._loop.create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait({future}, timeout=seconds)
        finally:
            self._waiting.discard(future)

    def _ring(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
