"""The state machines: whole, patient, and never ending in silence."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from htcgrid_events import BUS_EVENTS, SOURCE
from tests.template.stack import ROOT, names, of_type, references, statements

FILES = sorted((ROOT / "statemachines").glob("*.asl.json"))
TRANSIENT = ("States.ALL", "States.TaskFailed")


def load(file: Path) -> dict[str, Any]:
    machine: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return machine


def machines(machine: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A machine and those inside its Map and Parallel states."""
    yield machine
    for state in machine["States"].values():
        inside = [state["ItemProcessor"]] if "ItemProcessor" in state else state.get("Branches", [])
        for each in inside:
            yield from machines(each)


def targets(state: dict[str, Any]) -> set[str]:
    found = {choice["Next"] for choice in state.get("Choices", [])} | {each["Next"] for each in state.get("Catch", [])}
    return found | {state[field] for field in ("Next", "Default") if field in state}


@pytest.fixture(params=FILES, ids=lambda file: file.name)
def machine(request: pytest.FixtureRequest) -> dict[str, Any]:
    return load(request.param)


def test_every_definition_is_deployed() -> None:
    deployed = [properties["DefinitionUri"] for properties in of_type("AWS::Serverless::StateMachine").values()]
    assert sorted(deployed) == [f"statemachines/{file.name}" for file in FILES]


def test_every_target_exists_and_every_state_is_reached(machine: dict[str, Any]) -> None:
    for each in machines(machine):
        states = each["States"]
        reached, more = set(), {each["StartAt"]}
        while more:
            assert more <= set(states)
            reached |= more
            more = set().union(*(targets(states[name]) for name in reached)) - reached
        assert reached == set(states)


def test_every_state_goes_on_or_ends(machine: dict[str, Any]) -> None:
    for each in machines(machine):
        for name, state in each["States"].items():
            ends = state["Type"] in ("Succeed", "Fail") or state.get("End") is True
            assert ends is not bool(targets(state) - {catch["Next"] for catch in state.get("Catch", [])}), name


def test_every_task_retries_with_backoff_and_jitter_and_then_catches(machine: dict[str, Any]) -> None:
    for each in machines(machine):
        for name, state in each["States"].items():
            if state["Type"] != "Task":
                continue
            assert state["Catch"], name
            assert any(set(retry["ErrorEquals"]) & set(TRANSIENT) for retry in state["Retry"]), name
            for retry in state["Retry"]:
                if retry["MaxAttempts"]:
                    assert retry["BackoffRate"] >= 2, name
                    assert retry["JitterStrategy"] == "FULL", name
                    assert retry["MaxDelaySeconds"] <= 300, name


def test_a_failure_says_what_it_is_and_where_to_read_on(machine: dict[str, Any]) -> None:
    for each in machines(machine):
        for state in each["States"].values():
            if state["Type"] == "Fail":
                assert state["Error"]
                assert "docs/runbooks/" in state["Cause"]


def test_a_task_that_waits_for_its_token_has_an_end(machine: dict[str, Any]) -> None:
    for each in machines(machine):
        for state in each["States"].values():
            if state.get("Resource", "").endswith(".waitForTaskToken"):
                assert "TimeoutSeconds" in state
                assert any("States.Timeout" in catch["ErrorEquals"] for catch in state["Catch"])


def test_a_definition_is_given_exactly_the_names_that_it_uses() -> None:
    for properties in of_type("AWS::Serverless::StateMachine").values():
        text = (ROOT / properties["DefinitionUri"]).read_text(encoding="utf-8")
        assert set(re.findall(r"\$\{(\w+)\}", text)) == set(properties["DefinitionSubstitutions"])


def test_workflows_start_on_events_that_the_grid_sends() -> None:
    for rule in of_type("AWS::Events::Rule").values():
        assert rule["EventPattern"]["source"] == [SOURCE]
        assert set(rule["EventPattern"]["detail-type"]) <= set(BUS_EVENTS)
        [target] = rule["Targets"]
        assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["BusDeadLetterQueue", "Arn"]}}
        assert references(target["Arn"]) <= set(names("AWS::Serverless::StateMachine"))


ACTIONS = {
    "lambda:invoke": "lambda:InvokeFunction",
    "events:putEvents": "events:PutEvents",
    "dynamodb:updateItem": "dynamodb:UpdateItem",
    "aws-sdk:dynamodb:query": "dynamodb:Query",
}
"""What a role needs for an integration ("IAM policies for integrated services", Step Functions)."""

KEPT_BY_SERVICES = ("Logs", "Traces", "UseKey")


@pytest.mark.parametrize("name", names("AWS::Serverless::StateMachine"))
def test_a_workflow_may_do_what_its_definition_says_and_no_more(name: str) -> None:
    definition = load(ROOT / of_type("AWS::Serverless::StateMachine")[name]["DefinitionUri"])
    resources = [
        state["Resource"].removeprefix("arn:aws:states:::").removesuffix(".waitForTaskToken")
        for each in machines(definition)
        for state in each["States"].values()
        if state["Type"] == "Task"
    ]
    own = [each for each in statements() if each.role == f"{name}WorkflowRole"]
    allowed = {action for each in own if each.sid not in KEPT_BY_SERVICES for action in each.actions}
    assert allowed == {ACTIONS[resource] for resource in resources}
    assert any(each.sid == "UseKey" for each in own) is any(action.startswith("dynamodb:") for action in allowed)


def test_rules_and_schedules_may_start_their_workflows_and_no_more() -> None:
    started = {target for rule in of_type("AWS::Events::Rule").values() for target in references(rule["Targets"])}
    machines_of = {"StartWorkflowsRole": started & set(names("AWS::Serverless::StateMachine"))}
    machines_of["ExpiredLeasesScheduleRole"] = {"ExpiredLeases"}
    for role, expected in machines_of.items():
        start = [each for each in statements() if each.role == role and "states:StartExecution" in each.actions]
        assert [references(list(each.resources)) for each in start] == [expected]
    assert {each.sid for each in statements() if each.role == "StartWorkflowsRole"} == {"Start"}


def test_the_schedule_of_scaling_may_call_its_function_and_no_more() -> None:
    schedule = of_type("AWS::Scheduler::Schedule")["ScalingSchedule"]
    assert references(schedule["Target"]["Arn"]) == {"ScalingFunction"}
    assert references(schedule["Target"]["RoleArn"]) == {"ScalingScheduleRole"}
    assert schedule["State"] == {"Fn::If": ["PublishesDemand", "ENABLED", "DISABLED"]}
    own = {each.sid: each for each in statements() if each.role == "ScalingScheduleRole"}
    assert set(own) == {"Call", "DeadLetters", "UseKey"}
    assert own["Call"].actions == ("lambda:InvokeFunction",)
    assert references(list(own["Call"].resources)) == {"ScalingFunction"}
