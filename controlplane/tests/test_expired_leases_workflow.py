"""The workflow that looks for expired leases: state by state, and whole, with a stand-in for its function."""

import io
import json
import re
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from controlplane.tests.test_recovery import beat
from tests.support.control_plane_harness import Harness
from tests.template.stack import ROOT

from htcgrid_chunks.lease_rules import (
    GRACE,
    LEASE_SHARDS,
)
from htcgrid_controlplane.rules.sweep_schedule import (
    SWEEP_SHARDS,
    sweep_shard_of,
)
from htcgrid_events import new_id

TEXT = (ROOT / "statemachines/expired_leases.asl.json").read_text(encoding="utf-8")
MACHINE: dict[str, Any] = json.loads(TEXT)
STAND_IN = """
import json
import os

import boto3


def handler(event, context):
    boto3.client("sqs").send_message(QueueUrl=os.environ["CALLS"], MessageBody=json.dumps(event))
    shard, step = event["shard"], event["step"]
    if step == "sweep":
        return {"failures": 2, "after": ""}
    if shard == 3:
        raise RuntimeError("this shard is out of order")
    return {"failures": 0, "after": "more" if shard % 2 else ""}
"""


def inside(name: str) -> dict[str, Any]:
    states: dict[str, Any] = MACHINE["States"][name]["ItemProcessor"]["States"]
    return states


def try_state(state: dict[str, Any], variables: dict[str, Any] | None = None, mock: Any = None) -> dict[str, Any]:
    """What Step Functions says of one state."""
    request: dict[str, Any] = {
        "definition": json.dumps({"QueryLanguage": "JSONata", **state}),
        "roleArn": "arn:aws:iam::000000000000:role/any",
        "input": "{}",
        # MiniStack 1.5 looks for variables in the context; AWS takes them by themselves.
        "context": json.dumps({"variables": variables or {}}),
        "variables": json.dumps(variables or {}),
    }
    if mock:
        request["mock"] = mock
    # TestState has a host name of its own, which on the loopback has no address.
    client = boto3.client("stepfunctions", config=Config(inject_host_prefix=False))
    return dict(client.test_state(**request))


def test_every_part_of_both_indexes_is_looked_at_with_the_grace_of_the_code() -> None:
    leases, sessions = MACHINE["States"]["EachLeaseShard"], MACHINE["States"]["EachSessionShard"]
    assert leases["Items"] == f"{{% [0..{LEASE_SHARDS - 1}] %}}"
    assert sessions["Items"] == f"{{% [0..{SWEEP_SHARDS - 1}] %}}"
    assert leases["MaxConcurrency"] == LEASE_SHARDS
    assert sessions["MaxConcurrency"] == SWEEP_SHARDS
    [grace] = re.findall(r"\$toMillis\(\$now\(\)\) - (\d+)", leases["ItemSelector"]["before"])
    assert int(grace) == GRACE.total_seconds() * 1000
    assert MACHINE["TimeoutSeconds"] < 300, "an Express execution may take five minutes"


@pytest.mark.parametrize(
    ("shards", "choice", "page", "done"),
    [
        ("EachLeaseShard", "AnyExpired", "RecoverPage", "ShardDone"),
        ("EachSessionShard", "AnyOverdue", "SweepPage", "SessionsDone"),
    ],
)
def test_a_function_is_called_only_where_there_is_something(
    harness: Harness, shards: str, choice: str, page: str, done: str
) -> None:
    for found, following in ((0, done), (1, page)):
        assert try_state(inside(shards)[choice], {"found": found})["nextState"] == following


@pytest.mark.parametrize(
    ("shards", "choice", "page", "done"),
    [
        ("EachLeaseShard", "MorePages", "RecoverPage", "ShardDone"),
        ("EachSessionShard", "MoreSessions", "SweepPage", "SessionsDone"),
    ],
)
def test_pages_follow_until_there_is_none_or_a_run_has_had_its_share(
    harness: Harness, shards: str, choice: str, page: str, done: str
) -> None:
    state = inside(shards)[choice]
    assert try_state(state, {"after": "somewhere", "pages": 9})["nextState"] == page
    assert try_state(state, {"after": "somewhere", "pages": 10})["nextState"] == done
    assert try_state(state, {"after": "", "pages": 1})["nextState"] == done


@pytest.mark.parametrize("stuck", [0, 1])
def test_a_run_fails_if_anything_could_not_be_dealt_with(harness: Harness, stuck: int) -> None:
    following = try_state(MACHINE["States"]["AllDealtWith"], {"stuck": stuck})["nextState"]
    assert try_state(MACHINE["States"][following])["status"] == ("FAILED" if stuck else "SUCCEEDED")


@pytest.mark.parametrize(
    ("shards", "task", "failed"),
    [
        ("EachLeaseShard", "LookForExpired", "ShardFailed"),
        ("EachLeaseShard", "RecoverPage", "ShardFailed"),
        ("EachSessionShard", "LookForOverdue", "SessionsFailed"),
        ("EachSessionShard", "SweepPage", "SessionsFailed"),
    ],
)
def test_a_shard_that_fails_counts_and_holds_up_no_other(harness: Harness, shards: str, task: str, failed: str) -> None:
    mock = {"errorOutput": {"error": "DynamoDB.ProvisionedThroughputExceededException", "cause": "no"}}
    caught = try_state(inside(shards)[task], mock=mock)
    assert (caught["status"], caught["nextState"]) == ("CAUGHT_ERROR", failed)
    assert json.loads(try_state(inside(shards)[failed])["output"]) == 1


@pytest.fixture
def machine(own_harness: Harness) -> Iterator[str]:
    """The whole workflow over the tables of the test, and its function's stand-in."""
    iam, states, functions = boto3.client("iam"), boto3.client("stepfunctions"), boto3.client("lambda")
    name = f"leases-{new_id()}"
    trust = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": ["states.amazonaws.com", "lambda.amazonaws.com"]},
    }
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))["Role"]["Arn"]
    allowed = {
        "Effect": "Allow",
        "Action": ["dynamodb:Query", "lambda:InvokeFunction", "sqs:SendMessage"],
        "Resource": "*",
    }
    iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=json.dumps({"Statement": [allowed]}))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("app.py", STAND_IN)
    function = functions.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Handler="app.handler",
        Role=role,
        Code={"ZipFile": archive.getvalue()},
        Timeout=30,
        Environment={"Variables": {"CALLS": own_harness.watcher_url}},
    )["FunctionArn"]
    definition = (
        TEXT.replace("${ChunksTable}", own_harness.grid.settings.chunks_table)
        .replace("${SessionsTable}", own_harness.grid.settings.sessions_table)
        .replace("${ExpiredLeasesFunction}", function)
        # The test does not wait for retries.
        .replace('"MaxAttempts": 4', '"MaxAttempts": 0')
    )
    arn = states.create_state_machine(name=name, roleArn=role, definition=definition)["stateMachineArn"]
    yield arn
    states.delete_state_machine(stateMachineArn=arn)
    functions.delete_function(FunctionName=name)


def run(machine: str, within: float = 60) -> str:
    """How a run ended."""
    states = boto3.client("stepfunctions")
    execution = states.start_execution(stateMachineArn=machine)["executionArn"]
    end = time.monotonic() + within
    while (status := states.describe_execution(executionArn=execution)["status"]) == "RUNNING":
        assert time.monotonic() < end
    return status


def calls(harness: Harness) -> list[tuple[str, int, str]]:
    """What the function was called for: step, shard, and after what."""
    events = [json.loads(body) for body in harness.drain(harness.watcher_url)]
    return [(event["step"], event["shard"], event["after"]) for event in events if "step" in event]


def test_an_idle_run_calls_nothing(machine: str, own_harness: Harness) -> None:
    assert run(machine) == "SUCCEEDED"
    assert calls(own_harness) == []


def test_a_run_goes_through_what_there_is_in_bounds_and_tells_of_what_failed(
    machine: str, own_harness: Harness
) -> None:
    # Its leases and its sweep are long overdue: the clock of the tests is in the past.
    session = own_harness.create(*[1] * 120)
    beat(own_harness, own_harness.claim(session, *range(120)))
    assert run(machine) == "FAILED"
    made = Counter(calls(own_harness))
    odd = [shard for shard in range(1, LEASE_SHARDS, 2) if shard != 3]
    assert made == {
        **{("recover", shard, ""): 1 for shard in range(LEASE_SHARDS)},
        **{("recover", shard, "more"): 9 for shard in odd},
        ("sweep", sweep_shard_of(session.session_id), ""): 1,
    }
