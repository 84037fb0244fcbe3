"""What docs/scaling.md says of workloads is what the simulation gives, and the rule keeps its promises there."""

import pytest

from tests.scaling.__main__ import PAGE, Outcomes, simulate, table, written
from tests.scaling.simulation import Formula, Simulation, by_length, by_waiting, by_work
from tests.scaling.workloads import WORKLOADS


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    return simulate()


def test_the_figures_of_the_page_are_those_of_the_simulation(outcomes: Outcomes) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert table(outcomes) in page
    assert written(page, table(outcomes)) == page


def test_another_run_and_another_choice_of_pods_do_not_change_what_is_paid_much(outcomes: Outcomes) -> None:
    for seed, same in ((1, True), (2, False)):
        again = Simulation(WORKLOADS["mixed"], by_work, seed=seed).run()
        assert (again == outcomes["mixed"]["work"]) is same
        assert again.agent_seconds == pytest.approx(outcomes["mixed"]["work"].agent_seconds, rel=0.2)


def test_work_never_costs_more_than_the_length_of_the_queue_where_that_starts_too_many(outcomes: Outcomes) -> None:
    for workload in ("short", "bursts", "mixed"):
        ways = outcomes[workload]
        assert ways["work"].agent_seconds < 0.7 * ways["queue, all"].agent_seconds, workload


def test_work_starts_as_many_as_long_chunks_can_use_where_the_length_starts_too_few(outcomes: Outcomes) -> None:
    ways = outcomes["heavy"]
    assert max(ways["work"].took[1:]) < 0.5 * max(ways["queue, all"].took[1:])


def test_no_busy_agent_is_removed_for_a_queue_that_ran_dry(outcomes: Outcomes) -> None:
    assert outcomes["long"]["queue, waiting"].busy_removed > 0
    for way in ("queue, all", "work"):
        assert outcomes["long"][way].busy_removed == 0


@pytest.mark.parametrize("formula", [by_waiting, by_length, by_work])
def test_everything_that_arrives_ends_and_everybody_goes(formula: Formula) -> None:
    for bursts in WORKLOADS.values():
        outcome = Simulation(bursts, formula).run()
        assert len(outcome.took) == len(bursts)
        assert outcome.agents[-1][1] == 0
