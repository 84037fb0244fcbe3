"""No role may do what nothing of a whole run has done. The last of the end-to-end tests, after those of chaos."""

import re
from collections.abc import Iterable

import pytest

from htcgrid_local import LocalGrid, find_project
from tests.support.permissions import Permission, note
from tests.template.stack import statements

pytestmark = pytest.mark.grid

UNSEEN = {
    "Logs": "what functions print is kept by the embedded AWS itself",
    "Traces": "there is no X-Ray",
    "UseKey": "services use the key for the caller, and the embedded AWS encrypts nothing",
    "Poll": "the embedded AWS takes a queue's messages for a function without asking its role",
}
"""Statements whose use the embedded AWS does not show, and why."""

ROLES_UNSEEN = ("WorkflowRole", "WorkflowsRole", "ScheduleRole")
"""Workflows, rules and schedules act without their roles: tests/template compares these with what is defined."""

RARE = {
    # Uploads of large results that fail.
    **{
        Permission(role, "Results", "s3:AbortMultipartUpload"): "test_s3.py::test_an_upload_that_fails_leaves_nothing"
        for role in ("AgentRole", "ExpiredLeasesRole", "UndeliverableRole")
    },
    Permission("CompletionsRole", "Sessions", "dynamodb:GetItem"): (
        "test_redrives.py::test_a_bucket_that_a_redrive_reopens_meanwhile_is_not_noted_as_full"
    ),
    Permission("ExpiredLeasesRole", "Lifecycles", "states:DescribeExecution"): (
        "test_sweeping.py::test_a_session_whose_workflow_failed_gets_another"
    ),
    Permission("ExpiredLeasesRole", "Wake", "states:SendTaskSuccess"): (
        "test_sweeping.py::test_a_bucket_that_is_full_without_its_session_knowing_is_noted"
    ),
    Permission("ExpiredLeasesRole", "TaskEvents", "sqs:SendMessage"): (
        "test_sweeping.py::test_a_chunk_that_finished_and_was_not_counted_is_counted"
    ),
    Permission("ExpiredLeasesRole", "Results", "s3:GetObject"): (
        "test_recovery.py::test_large_results_of_a_chunk_that_is_given_up_go_on_in_the_data_plane"
    ),
    Permission("ExpiredLeasesRole", "Results", "s3:PutObject"): (
        "test_recovery.py::test_large_results_of_a_chunk_that_is_given_up_go_on_in_the_data_plane"
    ),
    Permission("SessionsApiRole", "Chunks", "dynamodb:PartiQLUpdate"): (
        "test_pausing.py::test_chunks_that_a_paused_session_is_given_wait_without_a_message"
    ),
    Permission("UndeliverableRole", "Chunks", "dynamodb:BatchGetItem"): (
        "test_undeliverable.py::test_a_finished_chunk_is_counted_if_nobody_has"
    ),
    Permission("UndeliverableRole", "TaskEvents", "sqs:SendMessage"): (
        "test_undeliverable.py::test_a_finished_chunk_is_counted_if_nobody_has"
    ),
    # It gives chunks up by the same service as the search for expired leases.
    Permission("UndeliverableRole", "Results", "s3:GetObject"): (
        "test_recovery.py::test_large_results_of_a_chunk_that_is_given_up_go_on_in_the_data_plane"
    ),
    Permission("UndeliverableRole", "Results", "s3:PutObject"): (
        "test_recovery.py::test_large_results_of_a_chunk_that_is_given_up_go_on_in_the_data_plane"
    ),
}
"""What whole grids do by accident alone, and the test of the control plane or the data plane that shows the need."""


def test_every_action_allowed_was_used_and_every_action_used_was_allowed(local_grid: LocalGrid) -> None:
    used = note(local_grid)
    allowed = {
        Permission(each.role, each.sid, action)
        for each in statements()
        if each.sid not in UNSEEN and not each.role.endswith(ROLES_UNSEEN)
        for action in each.actions
    }
    unused = allowed - used - RARE.keys()
    assert not unused, f"allowed and not used:\n{_lines(unused)}"
    # What a taken agent tries is refused on purpose.
    refused = [each for each in used - allowed if each.role != "AgentRole"]
    assert not refused, f"tried and not allowed:\n{_lines(refused)}"
    assert RARE.keys() <= allowed
    tests = {
        f"{file.name}::{name}"
        for part in ("controlplane", "dataplane")
        for file in (find_project().root / part / "tests").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert set(RARE.values()) <= tests


def _lines(permissions: Iterable[Permission]) -> str:
    return "\n".join(" ".join(each) for each in sorted(permissions))
