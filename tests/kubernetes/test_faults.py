"""What pods, nodes and Kubernetes itself do to work: its account closes, and nothing is lost or doubled."""

from datetime import UTC, datetime, timedelta

import pytest
from kubernetes import client

from htcgrid import TaskFailed
from htcgrid_eks.node_drain import NodeDrain
from htcgrid_events import FailureKind
from tests.kubernetes.keda import Keda
from tests.kubernetes.node import PAUSE
from tests.kubernetes.pool import MAX_AGENTS, NAMESPACE, Pool
from tests.kubernetes.waiting import PATIENCE, until
from tests.kubernetes.work import naps, work_of

KEPT = 2
"""Agents that are there when work comes: how long more of them take to start is up to the machine."""


@pytest.fixture(scope="module", autouse=True)
def kept(pool: Pool) -> None:
    pool.keep(KEPT)


def test_a_pod_is_killed(pool: Pool) -> None:
    with work_of(pool, naps(16)) as work:
        victim = work.wait_until_busy(KEPT).pop()
        pool.cluster.core.delete_namespaced_pod(victim, NAMESPACE, grace_period_seconds=0)

        work.complete()


def test_an_agent_is_evicted_and_finishes_what_it_runs(pool: Pool) -> None:
    with work_of(pool, naps(16)) as work:
        pool.wait_for_agents()
        victim = work.wait_until_busy(KEPT).pop()
        until(lambda: _evict(pool, victim), f"the eviction of {victim} is accepted")

        work.complete()

        assert not work.interrupted()


def _evict(pool: Pool, name: str) -> bool:
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=NAMESPACE))
    try:
        pool.cluster.core.create_namespaced_pod_eviction(name, NAMESPACE, eviction)
    except client.ApiException as error:
        if error.status == 429:  # The budget allows none at the moment.
            return False
        raise
    return True


def test_the_node_is_drained_and_comes_back(pool: Pool) -> None:
    with work_of(pool, naps(16)) as work:
        work.wait_until_busy(KEPT)
        try:
            # No other node takes the agents in, so their budget lets only some be evicted; the others are deleted.
            drain = NodeDrain(pool.cluster.core, timedelta(seconds=5))
            report = drain.run(pool.node.name, datetime.now(UTC) + timedelta(seconds=PATIENCE))
        finally:
            pool.cluster.core.patch_node(pool.node.name, {"spec": {"unschedulable": False}})
        assert report.done

        work.complete()

        assert not work.interrupted()


def test_a_task_that_takes_all_memory_fails_and_its_neighbours_complete(pool: Pool) -> None:
    tasks = naps(12)
    tasks[5] = {"do": "fill-memory"}
    with work_of(pool, tasks, max_retries=1) as work:
        ended, status = work.end()

    assert (status.account.completed, status.account.failed) == (11, 1)
    [failed] = [task for task in ended if task.error is not None]
    assert failed.index == 5
    assert isinstance(failed.error, TaskFailed)
    assert failed.error.kind in (FailureKind.CRASH, FailureKind.LOST)
    assert [task.get() for task in ended if task is not failed] == [number for number in range(12) if number != 5]


def test_tasks_that_kill_their_workers_do_not_eat_the_queue(pool: Pool) -> None:
    tasks = naps(12, seconds=0.2)
    poison = {1, 4, 7, 10}
    for index in poison:
        tasks[index] = {"do": "exit"}
    with work_of(pool, tasks, max_retries=2) as work:
        ended, status = work.end()

    assert (status.account.completed, status.account.failed) == (8, 4)
    assert {task.index for task in ended if task.error is not None} == poison


def test_a_worker_image_that_crashes_takes_no_work(pool: Pool) -> None:
    pool.keep(0)
    pool.upgrade({"worker": {"image": PAUSE}})
    try:
        with work_of(pool, naps(8)) as work:
            until(lambda: _restarts(pool) >= 2, "workers of the wrong image restart")
            assert work.claimed() == 0, "an agent without a worker took work"
            pool.upgrade({})

            work.complete()

            assert not work.interrupted()
    finally:
        pool.keep(KEPT)


def _restarts(pool: Pool) -> int:
    return max(
        (
            status.restart_count
            for pod in pool.pods()
            for status in pod.status.init_container_statuses or ()
            if status.name == "worker"
        ),
        default=0,
    )


def test_agents_are_replaced_under_load_without_losing_work(pool: Pool) -> None:
    with work_of(pool, naps(40)) as work:
        before = {pod.metadata.name for pod in pool.wait_for_agents()}
        work.wait_until_busy(KEPT)
        try:
            pool.upgrade({"function": {"environment": {"EDITION": "2"}}})
            until(lambda: not before & {pod.metadata.name for pod in pool.pods()}, "the agents are replaced")

            work.complete()
        finally:
            pool.upgrade({})

        assert not work.interrupted()


def test_keda_is_gone_for_a_while(pool: Pool, keda: Keda) -> None:
    with work_of(pool, naps(16)) as work:
        work.wait_until_busy(KEPT)
        for part in (keda.operator, keda.adapter):
            part.kill()
        try:
            work.complete()
            assert pool.agents(), "agents went though nobody knew how many were needed"
        finally:
            for part in (keda.operator, keda.adapter):
                part.start()
                part.wait()
    pool.rest()


def test_the_api_server_is_gone_for_a_while(pool: Pool) -> None:
    cluster = pool.cluster
    with work_of(pool, naps(40)) as work:
        work.wait_until_busy(KEPT)
        cluster.api_server.kill()
        try:
            # More than what agents had in hand.
            enough = work.finished() + 4 * MAX_AGENTS
            until(lambda: work.finished() >= enough, "agents work on without the API server")
        finally:
            cluster.api_server.start()
            cluster.api_server.wait()

        work.complete()
    pool.rest()
