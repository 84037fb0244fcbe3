"""Looks after a payload store that does not forget by itself, beside all that tasks wait for."""

import logging
import os
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final

from htcgrid_agent.telemetry.metrics import Metrics
from htcgrid_dataplane import StoreUnavailable, TendedStore

_LOG = logging.getLogger(__name__)
_LOWEST_PRIORITY: Final = 19


class Upkeep:
    """Has one store remove what has expired, in a thread that gives way to all others."""

    def __init__(
        self,
        store: TendedStore,
        metrics: Metrics,
        first: timedelta = timedelta(minutes=1),
        every: timedelta = timedelta(hours=1),
        random: Callable[[], float] = random.random,
    ) -> None:
        """Wire it up; `start` begins.

        Args:
            store: says itself whether it is time.
            metrics: count what was removed.
            first: the longest wait before it is asked for the first time: agents do not ask together.
            every: the wait before it is asked again.
            random: gives numbers in [0, 1).
        """
        self._store = store
        self._metrics = metrics
        self._first = first.total_seconds() * random()
        self._every = every.total_seconds()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop soon; another agent goes on where this one was."""
        self._stopped.set()

    def _run(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        wait = self._first
        while not self._stopped.wait(wait):
            self._tend()
            wait = self._every

    def _tend(self) -> None:
        try:
            removed = self._store.tend(self._stopped.wait)
        except StoreUnavailable as error:
            _LOG.warning("what has expired is not removed: %s", error)
            return
        if removed is not None:
            self._metrics.expired.inc(removed)
            _LOG.info("%d payloads that had expired were removed", removed)
