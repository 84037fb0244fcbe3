"""A partition beside `default`: a stack of its own, with agents of its own, from its creation to its removal."""

import pytest

from htcgrid import Grid, InvalidOption
from htcgrid_local import LocalGrid
from htcgrid_local.errors import DeployError
from tests.e2e.waiting import until

pytestmark = pytest.mark.grid


def test_sessions_run_in_a_partition_that_was_added_and_end_before_it_is_removed(
    grid: Grid, local_grid: LocalGrid
) -> None:
    with pytest.raises(InvalidOption, match="no partition 'large' in this grid; there is default"):
        grid.submit([{"value": 1}], partition="large")

    local_grid.add_partition("large")
    until(lambda: grid.info().partitions == ("default", "large"))
    # Its tasks wait for agents of their own, while those of `default` run.
    waiting = grid.submit([{"value": number} for number in range(3)], partition="large")
    assert grid.submit([{"value": 1}]).results(timeout=120)
    assert not waiting.status().account.completed
    agent = local_grid.start_agent("large")
    assert len(waiting.results(timeout=120)) == 3
    assert f"{agent.name}-" in str(waiting.task(0).owner)

    with grid.open_session(partition="large") as begun:
        with pytest.raises(DeployError, match="'large' still has 1 open session, and takes no new ones"):
            local_grid.remove_partition("large")
        with pytest.raises(InvalidOption, match="'large' is being removed; there is default"):
            grid.submit([{"value": 1}], partition="large")
        # What is open goes on.
        begun.add([{"value": 7}])
    assert begun.results(timeout=120) == [7]

    local_grid.remove_partition("large")
    until(lambda: grid.info().partitions == ("default",))
