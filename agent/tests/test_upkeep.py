"""What the agent does for a store that does not forget by itself."""

import logging
import os
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from htcgrid_agent.protocol.upkeep import Upkeep
from htcgrid_agent.telemetry.metrics import Metrics
from htcgrid_dataplane import StoreUnavailable

NOW = timedelta(0)


class Store:
    """Gives one result after the other. Then it goes on until it is told to stop."""

    def __init__(self, *results: int | StoreUnavailable | None) -> None:
        self._results = list(results)
        self.priorities: set[int] = set()
        self.busy, self.stopped = threading.Event(), threading.Event()

    def tend(self, pause: Callable[[float], bool]) -> int | None:
        self.priorities.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        if self._results:
            result = self._results.pop(0)
            if isinstance(result, StoreUnavailable):
                raise result
            return result
        self.busy.set()
        while not pause(3600):
            continue
        self.stopped.set()
        return 1


def test_what_a_store_removes_is_told_and_a_store_that_fails_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    store = Store(3, None, StoreUnavailable("the mount is away"), 4)
    upkeep = Upkeep(store, metrics, NOW, NOW)
    upkeep.start()
    assert store.busy.wait(60)
    assert "htcgrid_agent_expired_payloads_total 7.0" in metrics.render()
    assert [line for line in caplog.messages if "expired" in line] == [
        "3 payloads that had expired were removed",
        "what has expired is not removed: the mount is away",
        "4 payloads that had expired were removed",
    ]
    # It gives way to all other threads of the agent, whose priority stays.
    assert store.priorities == {19}
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < 19
    upkeep.close()
    assert store.stopped.wait(60)


def test_agents_do_not_ask_together() -> None:
    store = Store()
    late = Upkeep(store, Metrics(), timedelta(hours=1), NOW, random=lambda: 1.0)
    soon = Upkeep(store, Metrics(), timedelta(hours=1), NOW, random=lambda: 0.0)
    late.start()
    assert not store.busy.is_set()
    soon.start()
    assert store.busy.wait(60)
    late.close()
    soon.close()
