"""Half a minute of faults, always the same: longer ones, and others, are for `make chaos`."""

import pytest

from tests.chaos.chaos_grid import STORES
from tests.chaos.driver import Schedule, run
from tests.chaos.faults import ALL_FAULTS, faults_of
from tests.chaos.sessions import KINDS

SEED = 20
SECONDS = 30.0


@pytest.mark.grid
@pytest.mark.timeout(900)
def test_every_invariant_holds_whatever_is_done_to_a_grid() -> None:
    report = run(Schedule.drawn(SEED, SECONDS))
    assert report.broken == [], str(report)
    assert report.sessions.keys() == KINDS.keys()


def test_a_seed_draws_the_same_schedule_again() -> None:
    assert Schedule.drawn(SEED, SECONDS) == Schedule.drawn(SEED, SECONDS) != Schedule.drawn(SEED + 1, SECONDS)


@pytest.mark.parametrize("store", STORES)
def test_a_schedule_has_every_fault_of_its_store(store: str) -> None:
    assert {name for _, name in Schedule.drawn(SEED, SECONDS, store).strikes} == faults_of(store).keys()


def test_every_fault_is_one_of_some_store() -> None:
    assert set().union(*map(faults_of, STORES)) == ALL_FAULTS.keys()
