"""The bucket accounts under threads, on the embedded AWS: moto checks a condition and writes in two steps."""

import random
from concurrent.futures import ThreadPoolExecutor

from tests.support.control_plane_harness import Harness, inputs

from htcgrid_events import Account, AddChunks, ChunkOutcome


def test_threads_that_count_the_same_events_count_them_once(harness: Harness) -> None:
    session = harness.create(*[3] * 40)
    outcomes = harness.finish(session, dict.fromkeys(range(40), "CFX"))

    def work(seed: int) -> list[int]:
        mine = random.Random(seed).sample(outcomes, k=len(outcomes))
        return [chunk for start in range(0, 40, 7) for chunk in count(mine[start : start + 7])]

    def count(some: list[ChunkOutcome]) -> list[int]:
        return harness.grid.accounts.record(session, 0, some, harness.clock())[1]

    with ThreadPoolExecutor(4) as threads:
        new = [chunk for found in threads.map(work, range(4)) for chunk in found]
    assert sorted(new) == list(range(40))
    account = harness.grid.accounts.read(session, [0])[0]
    assert account.tasks == Account(submitted=120, completed=40, failed=40, cancelled=40)
    assert account.full


def test_threads_that_submit_the_same_chunks_submit_them_once(harness: Harness) -> None:
    session = harness.create(close=False)
    chunks = inputs(*[2] * 30)

    def submit(start: int) -> None:
        request = AddChunks(chunks=chunks[start : start + 20])
        harness.grid.submissions.add(session.tenant, session.session_id, request)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(submit, (0, 5, 10, 0)))
    account = harness.grid.accounts.read(session, [0])[0]
    assert account.tasks == Account(submitted=60)
    assert account.submitted == set(range(30))
