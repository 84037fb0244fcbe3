"""Half a minute of faults, always the same: longer ones, and others, are for `make chaos`."""

import pytest

from tests.chaos.driver import Schedule, run
from tests.chaos.faults import FAULTS
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


def test_a_schedule_has_every_fault() -> None:
    assert {name for _, name in Schedule.drawn(SEED, SECONDS).strikes} == FAULTS.keys()
