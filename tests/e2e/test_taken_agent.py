"""What whoever has an agent's credentials can do and cannot: the table in docs/security.md, line by line."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import boto3.session
import pytest
from botocore.exceptions import ClientError

from htcgrid_local import LocalGrid, find_project

pytestmark = pytest.mark.grid

KEY = {"bucket": {"S": "nobody#0"}, "chunk": {"N": "0"}}
"""A chunk of a session that there is not: what is allowed changes nothing."""


@dataclass(frozen=True)
class Agent:
    """An agent's credentials, and the names of what lies around it."""

    session: boto3.session.Session
    endpoint_url: str
    outputs: Mapping[str, str]

    def client(self, service: str) -> Any:
        return self.session.client(service, endpoint_url=self.endpoint_url)  # type: ignore[call-overload]

    def update(self, change: str) -> Any:
        """An update of the chunk, with a condition on its key alone."""
        text = f'UPDATE "{self.outputs["ChunksTable"]}" {change} WHERE "bucket" = \'nobody#0\' AND chunk = 0'
        return self.client("dynamodb").batch_execute_statement(Statements=[{"Statement": text}])


@pytest.fixture(scope="module")
def agent(local_grid: LocalGrid) -> Agent:
    role = local_grid.outputs["AgentRoleArn"]
    taken = local_grid.client("sts").assume_role(RoleArn=role, RoleSessionName="taken")["Credentials"]
    session = boto3.session.Session(
        aws_access_key_id=taken["AccessKeyId"],
        aws_secret_access_key=taken["SecretAccessKey"],
        aws_session_token=taken["SessionToken"],
        region_name="us-east-1",
    )
    return Agent(session, local_grid.endpoint_url, local_grid.outputs)


def _account(agent: Agent) -> list[Callable[[], Any]]:
    columns = ("submitted", "completed", "failed", "cancelled", "finished", "expected", "submitted_chunks", "versions")
    return [lambda name=name: agent.update(f"SET {name} = 0") for name in columns]  # type: ignore[misc]


def _submitted(agent: Agent) -> list[Callable[[], Any]]:
    columns = ("inputs", "inputs_bytes", "inputs_edition", "size", "first_task", "submitted_at")
    return [lambda name=name: agent.update(f"REMOVE {name}") for name in columns]  # type: ignore[misc]


def _other_tables(agent: Agent) -> list[Callable[[], Any]]:
    rows = agent.client("dynamodb")
    tables = {
        "SessionsTable": "session_id",
        "ConnectionsTable": "subscriber_id",
        "DeadLettersTable": "bucket",
        "TenantsTable": "tenant",
    }
    data = {"tenant": {"S": "a"}, "sha256": {"S": "a"}}
    return [
        lambda: rows.get_item(TableName=agent.outputs["DataTable"], Key=data),
        lambda: rows.put_item(TableName=agent.outputs["DataTable"], Item=data),
    ] + [
        lambda name=name, key=key: rows.get_item(TableName=agent.outputs[name], Key={key: {"S": "a"}})
        for name, key in tables.items()
    ]


def _rows(agent: Agent) -> list[Callable[[], Any]]:
    rows, table = agent.client("dynamodb"), agent.outputs["ChunksTable"]
    statements = (
        f"INSERT INTO \"{table}\" VALUE {{'bucket': 'a#0', 'chunk': 0}}",
        f'DELETE FROM "{table}" WHERE "bucket" = \'a#0\' AND chunk = 0',
        f'SELECT * FROM "{table}" WHERE "bucket" = \'a#0\'',
    )
    return [
        lambda: rows.put_item(TableName=table, Item=KEY),
        lambda: rows.delete_item(TableName=table, Key=KEY),
        lambda: rows.update_item(TableName=table, Key=KEY),
        lambda: rows.scan(TableName=table),
        *[lambda text=text: rows.execute_statement(Statement=text) for text in statements],
    ]


def _objects(agent: Agent) -> list[Callable[[], Any]]:
    objects, bucket = agent.client("s3"), agent.outputs["DataBucket"]
    return [
        lambda: objects.put_object(Bucket=bucket, Key="tenant/nobody/inputs/0", Body=b""),
        lambda: objects.put_object(Bucket=bucket, Key="tenant/nobody/results/0", Body=b""),
        lambda: objects.put_object(Bucket=bucket, Key="elsewhere", Body=b""),
        lambda: objects.delete_object(Bucket=bucket, Key="tenant/nobody/results/0.1"),
        lambda: objects.list_objects_v2(Bucket=bucket),
    ]


def _queues(agent: Agent) -> list[Callable[[], Any]]:
    queues, outputs = agent.client("sqs"), agent.outputs
    return [
        lambda: queues.send_message(QueueUrl=outputs["TaskQueueLowUrl"], MessageBody="{}"),
        lambda: queues.receive_message(QueueUrl=outputs["TaskEventsQueueUrl"]),
        lambda: queues.receive_message(QueueUrl=outputs["UndeliverableQueueUrl"]),
        lambda: queues.purge_queue(QueueUrl=outputs["TaskQueueLowUrl"]),
    ]


def _control_plane(agent: Agent) -> list[Callable[[], Any]]:
    outputs = agent.outputs
    event = {"Source": "htcgrid", "DetailType": "Session Completed", "Detail": "{}"}
    return [
        lambda: agent.client("events").put_events(Entries=[event | {"EventBusName": outputs["EventBusName"]}]),
        lambda: agent.client("sns").publish(TopicArn=outputs["NotificationTopicArn"], Message="a"),
        lambda: agent.client("stepfunctions").send_task_success(taskToken="a", output="{}"),
        lambda: agent.client("stepfunctions").start_execution(stateMachineArn=outputs["DeadLettersArn"]),
        lambda: agent.client("lambda").list_functions(),
        lambda: agent.client("iam").list_roles(),
        lambda: agent.client("sts").assume_role(RoleArn=outputs["AgentRoleArn"], RoleSessionName="again"),
        lambda: agent.client("cognito-idp").list_users(UserPoolId=outputs["UserPoolId"]),
    ]


def _event(agent: Agent) -> Callable[[], Any]:
    # It comes to the completions function only after the tests.
    url = agent.outputs["TaskEventsQueueUrl"]
    return lambda: agent.client("sqs").send_message(QueueUrl=url, MessageBody="{}", DelaySeconds=900)


def _partition(agent: Agent, attributes: str) -> Callable[[], Any]:
    return lambda: agent.client("dynamodb").get_item(
        TableName=agent.outputs["PartitionsTable"],
        Key={"partition": {"S": "default"}, "entry": {"S": "preload"}},
        ProjectionExpression=attributes,
    )


def _shared_data(agent: Agent) -> list[Callable[[], Any]]:
    objects, bucket = agent.client("s3"), agent.outputs["DataBucket"]
    return [
        lambda: objects.put_object(Bucket=bucket, Key="tenant/data/0", Body=b""),
        lambda: objects.delete_object(Bucket=bucket, Key="tenant/data/0"),
    ]


def _messages(agent: Agent) -> list[Callable[[], Any]]:
    queues, url = agent.client("sqs"), agent.outputs["TaskQueueLowUrl"]
    return [
        lambda: queues.receive_message(QueueUrl=url, VisibilityTimeout=0, WaitTimeSeconds=0),
        lambda: queues.delete_message(QueueUrl=url, ReceiptHandle="none"),
        lambda: queues.change_message_visibility(QueueUrl=url, ReceiptHandle="none", VisibilityTimeout=0),
    ]


def _payloads(agent: Agent) -> list[Callable[[], Any]]:
    objects, bucket = agent.client("s3"), agent.outputs["DataBucket"]
    return [
        lambda: objects.get_object(Bucket=bucket, Key="tenant/nobody/inputs/0"),
        lambda: objects.get_object(Bucket=bucket, Key="tenant/nobody/results/0.1"),
    ]


def _outcomes(agent: Agent) -> list[Callable[[], Any]]:
    return [
        lambda: agent.update("SET state = 'RUNNING' SET attempt = 9 SET \"owner\" = 'me'"),
        lambda: agent.update("SET outcomes = 'C' SET results = 'mine' SET finished_at = 1 REMOVE claimable_at"),
    ]


CAN: dict[str, Callable[[Agent], list[Callable[[], Any]]]] = {
    "read a row whose session's id it knows": lambda agent: [
        lambda: agent.client("dynamodb").get_item(TableName=agent.outputs["ChunksTable"], Key=KEY)
    ],
    "claim any chunk, and write its outcomes and small results": _outcomes,
    "read any payload whose key it knows": _payloads,
    "write the results of any attempt, over those that are there too": lambda agent: [
        lambda: agent.client("s3").put_object(
            Bucket=agent.outputs["DataBucket"], Key="tenant/nobody/results/0.1", Body=b""
        )
    ],
    "make the row of a chunk unreadable": lambda agent: [lambda: agent.update("SET tries = 'x'")],
    "list the row of an account in the index of leases": lambda agent: [
        lambda: agent.update("SET lease_shard = 0 SET claimable_at = 1")
    ],
    "take, hide and delete messages of the task queues": _messages,
    "send any event of any session's tasks": lambda agent: [_event(agent)],
    "see what partitions preload, and read shared data whose tenant and SHA-256 it knows": lambda agent: [
        _partition(agent, "preload"),
        lambda: agent.client("s3").get_object(Bucket=agent.outputs["DataBucket"], Key="tenant/data/0"),
    ],
}

CANNOT: dict[str, Callable[[Agent], list[Callable[[], Any]]]] = {
    "give a chunk to another tenant": lambda agent: [lambda: agent.update("SET tenant = 'me'")],
    "change what was submitted": _submitted,
    "change when a row expires": lambda agent: [lambda: agent.update("SET expires_at = 1")],
    "change what is counted of a session": _account,
    "insert, replace, delete or list rows": _rows,
    "put or delete shared data": _shared_data,
    "see anything of partitions but what is preloaded": lambda agent: [_partition(agent, "in_flight")],
    "see or change sessions, subscribers, dead letters, rows of shared data and what tenants use": _other_tables,
    "write inputs, or anything but the results of an attempt; delete or list objects": _objects,
    "send tasks, or take events and undeliverable messages": _queues,
    "speak for the control plane: to the bus, topic, workflows, functions, users and roles": _control_plane,
    "use the key but through DynamoDB, S3 and SQS": lambda agent: [
        lambda: agent.client("kms").generate_data_key(KeyId=agent.outputs["KeyArn"], KeySpec="AES_256")
    ],
}


def _is_refused(call: Callable[[], Any]) -> bool:
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException", "AuthorizationError")
    return False


@pytest.mark.parametrize("line", CAN)
def test_a_taken_agent_can(agent: Agent, line: str) -> None:
    assert [_is_refused(call) for call in CAN[line](agent)] == [False] * len(CAN[line](agent))


@pytest.mark.parametrize("line", CANNOT)
def test_a_taken_agent_cannot(agent: Agent, line: str) -> None:
    assert [_is_refused(call) for call in CANNOT[line](agent)] == [True] * len(CANNOT[line](agent))


def test_the_documents_table_has_these_lines() -> None:
    text = (find_project().root / "docs/security.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (can|cannot) \| ([^|]+) \|", text, re.MULTILINE)
    assert [line.strip() for word, line in rows if word == "can"] == list(CAN)
    assert [line.strip() for word, line in rows if word == "cannot"] == list(CANNOT)
