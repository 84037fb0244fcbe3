"""Whose deletion cost is changed, and in which order."""

from collections.abc import Iterable

from htcgrid_eks.deletion_cost.costs import ANNOTATION, BUSY, PendingChanges
from htcgrid_eks.objects import Pod


def pod(name: str, cost: str | None = None) -> Pod:
    annotations = {} if cost is None else {ANNOTATION: cost}
    return Pod.model_validate(
        {"metadata": {"name": name, "uid": name, "annotations": annotations}, "spec": {}, "status": {}}
    )


def changes(pending: PendingChanges, most: int = 100) -> list[tuple[str, str | None]]:
    return [(change.pod.metadata.name, change.cost) for change in pending.take(most)]


def updated(pods: Iterable[Pod], busy: Iterable[str] = (), free: Iterable[str] = ()) -> PendingChanges:
    pending = PendingChanges()
    pending.update(pods, dict.fromkeys(busy, True) | dict.fromkeys(free, False))
    return pending


def test_a_busy_pod_gets_a_cost_and_a_free_one_loses_it() -> None:
    pods = [pod("becomes-busy"), pod("becomes-free", BUSY), pod("stays-busy", BUSY), pod("stays-free")]
    pending = updated(pods, busy=["becomes-busy", "stays-busy"], free=["becomes-free", "stays-free"])
    assert changes(pending) == [("becomes-busy", BUSY), ("becomes-free", None)]


def test_the_cost_of_a_pod_stays_whose_agent_does_not_answer() -> None:
    assert changes(updated([pod("silent"), pod("silent-too", BUSY)])) == []


def test_the_oldest_change_is_made_first_however_few_are_made_at_a_time() -> None:
    pods = [pod(name) for name in "abc"]
    pending = updated(pods, busy="bc")
    assert changes(pending, most=1) == [("b", BUSY)]
    pending.update([pods[0], pod("b", BUSY), pods[2]], dict.fromkeys("abc", True))
    assert changes(pending) == [("c", BUSY), ("a", BUSY)]


def test_a_change_that_is_wanted_no_longer_is_not_made() -> None:
    pending = updated([pod("short-task")], busy=["short-task"])
    pending.update([pod("short-task")], {"short-task": False})
    assert changes(pending) == []


def test_a_pod_that_flickers_waits_behind_one_that_does_not() -> None:
    pending = updated([pod("flickers"), pod("long-task")], busy=["flickers", "long-task"])
    pending.update([pod("flickers"), pod("long-task")], {"flickers": False, "long-task": True})
    pending.update([pod("flickers"), pod("long-task")], {"flickers": True, "long-task": True})
    assert changes(pending, most=1) == [("long-task", BUSY)]


def test_a_pod_that_is_gone_wants_nothing() -> None:
    pending = updated([pod("gone")], busy=["gone"])
    pending.update([], {})
    assert len(pending) == 0
