"""The whole grid with agents as pods: from nothing to as many as there is work for, and back."""

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from demo import FUNCTION, HERE
from portfolio_demo.book import read_book, read_market
from portfolio_demo.compare import differences
from portfolio_demo.in_process import load_handler
from portfolio_demo.tasks import event_for, group, positions_of

from htcgrid import JSON
from tests.kubernetes.pool import MAX_AGENTS, Pool
from tests.kubernetes.work import Work

GROUPS = 60


def test_a_portfolio_is_valued_by_agents_that_come_with_the_work_and_go_with_it(
    pool: Pool, report: Callable[[str], None]
) -> None:
    pool.keep(0)
    book, market = read_book(HERE / "data" / "book.csv"), read_market(HERE / "data" / "market.json")
    events = [event_for(trades, market) for trades in group(book, GROUPS)]
    most = 0

    with pool.grid.connect() as grid:
        began = time.monotonic()
        session = grid.submit(cast("Sequence[JSON]", events))
        results: dict[int, Any] = {}
        first = 0.0
        for task in session.as_completed():
            first = first or time.monotonic() - began
            most = max(most, sum(pod.metadata.deletion_timestamp is None for pod in pool.pods()))
            results[task.index] = task.get()
        last = time.monotonic() - began
        status = session.wait()

    assert (status.account.submitted, status.account.completed) == (GROUPS, GROUPS)
    valued = positions_of([results[index] for index in range(GROUPS)], book)
    assert differences(valued, positions_of([load_handler(FUNCTION)(event_for(book, market), None)], book)) == []
    assert 1 < most <= MAX_AGENTS
    assert not Work(pool, session).interrupted(), "an agent was taken away from its work"

    pool.rest()
    gone = time.monotonic() - began - last
    report(f"{GROUPS} tasks: first result after {first:.1f} s, last after {last:.1f} s, no agent {gone:.1f} s later")
