"""Each state of each workflow by itself, as Step Functions' TestState runs it: where it goes, whatever happens."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from tests.template.stack import ROOT

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.client import SFNClient

State = tuple[str, str, dict[str, Any], dict[str, Any]]
"""The workflow's name, the state's name, the machine that holds it (which may be inside a Map state), the state."""

ROLE = "arn:aws:iam::000000000000:role/nobody"


def states() -> Iterator[State]:
    for file in sorted((ROOT / "statemachines").glob("*.asl.json")):
        yield from inside(file.name.removesuffix(".asl.json"), json.loads(file.read_text(encoding="utf-8")))


def inside(workflow: str, machine: dict[str, Any]) -> Iterator[State]:
    for name, state in machine["States"].items():
        yield workflow, name, machine, state
        for each in [state["ItemProcessor"]] if "ItemProcessor" in state else state.get("Branches", []):
            yield from inside(workflow, {"QueryLanguage": "JSONata", **each})


def caught() -> list[tuple[State, str, str]]:
    """Each task with each kind of error that it catches, and where that leads."""
    return [
        (state, "Something.Unexpected" if error == "States.ALL" else error, catch["Next"])
        for state in of_type("Task")
        for catch in state[3]["Catch"]
        for error in catch["ErrorEquals"]
    ]


def of_type(kind: str) -> list[State]:
    return [state for state in states() if state[3]["Type"] == kind]


def named(value: object) -> str | None:
    return f"{value[0]}.{value[1]}" if isinstance(value, tuple) else None


@pytest.fixture(scope="module")
def step_functions(embedded_environment: dict[str, str]) -> "SFNClient":
    """Step Functions of the embedded AWS."""
    return boto3.client(
        "stepfunctions",
        endpoint_url=embedded_environment["AWS_ENDPOINT_URL"],
        region_name=embedded_environment["AWS_REGION"],
        aws_access_key_id=embedded_environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=embedded_environment["AWS_SECRET_ACCESS_KEY"],
        # Else the SDK asks a host of another name for this operation.
        config=Config(inject_host_prefix=False),
    )


def run(client: "SFNClient", state: State, variables: dict[str, Any] | None = None, **mock: Any) -> dict[str, Any]:
    _, name, machine, _ = state
    request: dict[str, Any] = {"definition": json.dumps(machine), "stateName": name, "roleArn": ROLE}
    context = {"variables": variables or VARIABLES, "Task": {"Token": "token"}}
    if mock:
        request["mock"] = mock
    return dict(client.test_state(**request, input=json.dumps(INPUT), context=json.dumps(context)))


INPUT = {"detail": {"session_id": "5" * 32, "chunk": 1, "deadline_at": 2_000_000_000_000}, "shard": 1, "before": 2}
VARIABLES: dict[str, Any] = {
    "session_id": "5" * 32,
    "deadline_at": 2_000_000_000_000,
    "reason": "done",
    "first_bucket": 0,
    "recounted": False,
    "detail": {"session_id": "5" * 32},
    "shard": 1,
    "before": 2,
    "after": "",
    "pages": 0,
    "failures": 0,
    "found": 0,
}


@pytest.mark.parametrize("state", of_type("Task"), ids=named)
def test_a_task_that_succeeds_leads_on(step_functions: "SFNClient", state: State) -> None:
    answer = run(step_functions, state, result="{}")
    assert answer["status"] == "SUCCEEDED"
    assert answer["nextState"] == state[3]["Next"]


@pytest.mark.parametrize(("state", "error", "following"), caught(), ids=named)
def test_an_error_that_outlasts_its_retries_is_caught(
    step_functions: "SFNClient", state: State, error: str, following: str
) -> None:
    answer = run(step_functions, state, errorOutput={"error": error, "cause": "as the test wants it"})
    assert (answer["status"], answer["error"], answer["nextState"]) == ("CAUGHT_ERROR", error, following)


@pytest.mark.parametrize("state", of_type("Fail"), ids=named)
def test_a_failure_says_its_name(step_functions: "SFNClient", state: State) -> None:
    answer = run(step_functions, state)
    assert (answer["status"], answer["error"]) == ("FAILED", state[3]["Error"])
    assert (ROOT / answer["cause"].rpartition(" ")[2]).is_file()


CHOICES: list[tuple[str, str, dict[str, Any], str]] = [
    ("session_lifecycle", "RanToItsEnd", {"reason": "done"}, "EndSession"),
    ("session_lifecycle", "RanToItsEnd", {"reason": "cancelled"}, "SettleAccounts"),
    ("session_lifecycle", "RanToItsEnd", {"reason": "failures"}, "SettleAccounts"),
    ("session_lifecycle", "AllSettled", {"first_bucket": 32}, "SettleAccounts"),
    ("session_lifecycle", "AllSettled", {"first_bucket": -1}, "EndSession"),
    ("session_lifecycle", "HasVerdict", {"state": "RUNNING"}, "AwaitEnd"),
    ("session_lifecycle", "HasVerdict", {"state": "FAILED"}, "AnnounceVerdict"),
    ("session_lifecycle", "MayRecount", {"recounted": False}, "RecountAccounts"),
    ("session_lifecycle", "MayRecount", {"recounted": True}, "SessionStuck"),
    ("session_lifecycle", "AllRecounted", {"first_bucket": 32}, "RecountAccounts"),
    ("session_lifecycle", "AllRecounted", {"first_bucket": -1}, "EndSession"),
    ("session_pause", "AllFollow", {"first_bucket": 0}, "FollowSession"),
    ("session_pause", "AllFollow", {"first_bucket": -1}, "Followed"),
    ("dead_letters", "AnythingRecorded", {"detail": {"session_id": "5" * 32}}, "AnnounceLetters"),
    ("dead_letters", "AnythingRecorded", {"detail": {}}, "NothingToTell"),
    ("expired_leases", "AnyExpired", {"found": 1}, "RecoverPage"),
    ("expired_leases", "AnyExpired", {"found": 0}, "ShardDone"),
    ("expired_leases", "MorePages", {"after": "here", "pages": 9}, "RecoverPage"),
    ("expired_leases", "MorePages", {"after": "here", "pages": 10}, "ShardDone"),
    ("expired_leases", "MorePages", {"after": "", "pages": 1}, "ShardDone"),
    ("expired_leases", "AnyOverdue", {"found": 1}, "SweepPage"),
    ("expired_leases", "AnyOverdue", {"found": 0}, "SessionsDone"),
    ("expired_leases", "MoreSessions", {"after": "here", "pages": 9}, "SweepPage"),
    ("expired_leases", "MoreSessions", {"after": "here", "pages": 10}, "SessionsDone"),
    ("expired_leases", "MoreSessions", {"after": "", "pages": 1}, "SessionsDone"),
    ("expired_leases", "AllDealtWith", {"stuck": 1}, "SomeStuck"),
    ("expired_leases", "AllDealtWith", {"stuck": 0}, "Done"),
]


@pytest.mark.parametrize(("workflow", "name", "variables", "following"), CHOICES)
def test_a_choice_is_made_by_what_is_known(
    step_functions: "SFNClient", workflow: str, name: str, variables: dict[str, Any], following: str
) -> None:
    [state] = [each for each in states() if each[:2] == (workflow, name)]
    answer = run(step_functions, state, {**VARIABLES, **variables})
    assert (answer["status"], answer["nextState"]) == ("SUCCEEDED", following)


def test_each_way_out_of_each_choice_is_tried() -> None:
    tried = {(workflow, name, following) for workflow, name, _, following in CHOICES}
    possible = {
        (workflow, name, target)
        for workflow, name, _, state in of_type("Choice")
        for target in [*(choice["Next"] for choice in state["Choices"]), state["Default"]]
    }
    assert tried == possible
