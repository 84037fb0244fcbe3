"""A control plane of a test's own: its tables, queues, bus and topic, on whichever AWS the process is pointed at."""

import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
    Payload,
)
from htcgrid_chunks.store import (
    ChunkLease,
    ChunkProgress,
    Claim,
)
from htcgrid_controlplane.rules.partition import Partition
from htcgrid_controlplane.rules.quotas import TenantLimits
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.settings import Settings
from htcgrid_controlplane.wiring import ControlPlane
from htcgrid_dataplane import encode_lines
from htcgrid_events import (
    PUSH_FRAME,
    ChunkFinished,
    ChunkInput,
    ChunkOutcome,
    ChunkQueued,
    ChunksFrame,
    CreateSession,
    FailedTask,
    PongFrame,
    Priority,
    SessionEndedFrame,
    SessionOptions,
    TaskError,
    TasksRetrying,
    Totals,
    new_id,
    task_id,
)
from tests.support.push_server import PushServer
from tests.template.stack import of_type

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

TENANT = "tenant-1"
STRANGER = "tenant-2"
START = 1_760_000_000_000
AGENT = "agent-1"
LEASE = 60_000
LIMITS = TenantLimits(
    open_sessions=1_000_000,
    tasks=2_000_000_000,
    submissions_per_second=10_000,
    bytes_per_day=1 << 40,
    data_gigabytes=1_000_000,
    high_priority=True,
    task_timeout_seconds=43_200,
)
"""Beyond what tests do whose subject they are not."""
_SHAPE = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
FAILURE = TaskError.model_validate({"kind": "handler", "type": "ValueError", "message": "no"})


@dataclass
class HandClock:
    """A clock that moves when told to."""

    now: int = START

    def __call__(self) -> int:
        return self.now

    def advance(self, milliseconds: int) -> int:
        self.now += milliseconds
        return self.now


def create_table(logical_id: str, name: str) -> str:
    """A table with the key and the indexes that the template gives to the one with this logical id."""
    properties = of_type("AWS::DynamoDB::Table")[logical_id]
    shape = {field: properties[field] for field in _SHAPE if field in properties}
    boto3.client("dynamodb").create_table(TableName=name, **shape)
    return name


@dataclass
class Harness:
    """The control plane and what is around it. Agents are played by the methods that claim and finish."""

    grid: ControlPlane
    clock: HandClock
    sqs: "SQSClient"
    deliveries: "SQSClient"
    """For queues that other services deliver into: those are where these services are."""
    push: PushServer
    watcher_url: str
    topic_queue_url: str

    def start_anew(self) -> None:
        """Forget what earlier tests left in the queues and connections, and what tenants used."""
        self.clock.now = START
        self.push.gone.clear()
        self.push.failing.clear()
        self.push.frames.clear()
        settings = self.grid.settings
        # What a tenant used when the clock was ahead would count as used in the future.
        for tenant in (TENANT, STRANGER):
            boto3.client("dynamodb").delete_item(TableName=settings.tenants_table, Key={"tenant": {"S": tenant}})
        for url in (
            *map(self.queue_url, Priority),
            settings.task_events_queue_url,
            self.watcher_url,
            self.topic_queue_url,
        ):
            self.drain(url)

    def create(
        self,
        *sizes: int,
        session_id: str | None = None,
        close: bool = True,
        subscriber_id: str | None = None,
        **options: Any,
    ) -> Session:
        """Submit a session with chunks of these sizes."""
        request = CreateSession(
            options=SessionOptions(**options),
            chunks=inputs(*sizes),
            totals=Totals(chunks=len(sizes), tasks=sum(sizes)) if close else None,
            subscriber_id=subscriber_id,
        )
        return self.grid.submissions.create(TENANT, session_id or new_id(), request)

    def connect(self, connection: str) -> str:
        """Open a push connection. Gives its subscriber."""
        subscriber_id = new_id()
        ticket = self.grid.subscribers.issue_ticket(subscriber_id, TENANT, self.clock())
        self.grid.subscribers.connect(ticket.ticket, connection, self.clock())
        return subscriber_id

    def claim(self, session: Session, *chunks: int, owner: str = AGENT, lease: int = LEASE) -> list[ChunkLease]:
        """Claim chunks, all of which must be free."""
        now = self.clock()
        claims = [
            Claim(ChunkKey(session.session_id, chunk), owner, now, now + lease, f"message-{chunk}", now, session.tenant)
            for chunk in chunks
        ]
        leases = []
        for accepted, row in self.grid.chunks.claim(claims):
            assert accepted
            assert row
            leases.append(ChunkLease(row.key, owner, row.attempt))
        return leases

    def finish(self, session: Session, outcomes: dict[int, str], owner: str = AGENT) -> list[ChunkOutcome]:
        """Claim chunks and finish them with these letters. Gives the events that their agent sends."""
        leases = self.claim(session, *outcomes, owner=owner)
        work = [(each, self.progress(outcomes[each.key.chunk])) for each in leases]
        assert all(self.grid.chunks.finish(work))
        return [self.row(session, chunk).outcome() for chunk in outcomes]

    def retry(self, session: Session, outcomes: dict[int, str], owner: str = AGENT) -> list[TasksRetrying]:
        """Claim chunks and end the attempts with these letters, some of which are `Q`. Gives the events that their
        agent sends. The chunks may be claimed again at once."""
        leases = self.claim(session, *outcomes, owner=owner)
        work = [(each, self.progress(outcomes[each.key.chunk]), self.clock()) for each in leases]
        assert all(self.grid.chunks.retry(work))
        return [self.retrying(self.row(session, chunk)) for chunk in outcomes]

    def retrying(self, row: Chunk) -> TasksRetrying:
        """What the agent says of a chunk whose attempt ended with open tasks."""
        names = [task_id(row.key.session_id, row.first_task + offset) for offset in row.open_offsets]
        return TasksRetrying(
            session_id=row.key.session_id,
            tenant=row.tenant,
            chunk=row.key.chunk,
            attempt=row.attempt,
            retry_at=row.claimable_at,
            tasks=tuple(
                FailedTask(task_id=name, kind=FAILURE.kind, type=FAILURE.type, message=FAILURE.message, attempts=1)
                for name in names
            ),
            failed=len(names),
        )

    def progress(self, outcomes: str, **more: Any) -> ChunkProgress:
        """What an attempt says of its chunk, with results for its letters."""
        lines = [{"C": b"1", "F": FAILURE.model_dump_json().encode()}.get(code, b"") for code in outcomes]
        now = self.clock()
        values = {"results": Payload(encode_lines(lines)), "tries": {}, "started_at": now, "finished_at": now, **more}
        return ChunkProgress(outcomes=outcomes, **values)

    def record(self, session: Session, outcomes: Sequence[ChunkOutcome]) -> None:
        """Let the completions function deal with these events."""
        self.grid.completions.record(session.session_id, outcomes)

    def row(self, session: Session, chunk: int = 0) -> Chunk:
        row = self.grid.chunks.read(session, chunk)
        assert row
        return row

    def read(self, session: Session) -> Session:
        return self.grid.sessions.read(session.session_id)

    def messages(self, priority: Priority = Priority.NORMAL) -> list[ChunkQueued]:
        """Take the messages that lie in a task queue."""
        return [ChunkQueued.model_validate_json(body) for body in self.drain(self.queue_url(priority))]

    def queue_url(self, priority: Priority = Priority.NORMAL) -> str:
        """The task queue of the partition `default`."""
        return self.grid.known_partitions.find("default").queue_urls[priority]

    def events(self) -> list[tuple[str, Any]]:
        """Take the events that were put on the bus: detail type and detail."""
        events = [json.loads(body) for body in self.drain(self.watcher_url)]
        return [(event["detail-type"], event["detail"]) for event in events]

    def task_events(self) -> list[ChunkFinished]:
        """Take the task events that lie in their queue."""
        bodies = self.drain(self.grid.settings.task_events_queue_url)
        return [ChunkFinished.model_validate_json(body) for body in bodies]

    def notifications(self) -> list[tuple[dict[str, str], ChunksFrame | SessionEndedFrame | PongFrame]]:
        """Take what was published on the topic: its attributes and the frame."""
        bodies = [json.loads(body) for body in self.drain(self.topic_queue_url)]
        return [
            (
                {name: attribute["Value"] for name, attribute in body["MessageAttributes"].items()},
                PUSH_FRAME.validate_json(body["Message"]),
            )
            for body in bodies
        ]

    def drain(self, url: str) -> list[str]:
        """Take all messages of a queue."""
        client = self.deliveries if url in (self.watcher_url, self.topic_queue_url) else self.sqs
        found: list[str] = []
        while messages := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            found += [message["Body"] for message in messages]
            client.delete_message_batch(
                QueueUrl=url,
                Entries=[
                    {"Id": str(place), "ReceiptHandle": message["ReceiptHandle"]}
                    for place, message in enumerate(messages)
                ],
            )
        return found


def inputs(*sizes: int, first_chunk: int = 0, first_task: int | None = None) -> tuple[ChunkInput, ...]:
    """Chunks of these sizes, one after another; without `first_task`, behind chunks of one task each."""
    made = []
    first_task = first_chunk if first_task is None else first_task
    for place, size in enumerate(sizes):
        made.append(
            ChunkInput(chunk=first_chunk + place, first_task=first_task, size=size, inputs=encode_lines([b"{}"] * size))
        )
        first_task += size
    return tuple(made)


def build_harness(push: PushServer) -> Harness:
    """Make tables, queues, a bus and a topic, and a control plane upon them."""
    mark = f"w{uuid.uuid4().hex[:12]}"
    sqs, events, sns = boto3.client("sqs"), boto3.client("events"), boto3.client("sns")
    deliveries = boto3.client("sqs", endpoint_url=os.environ["AWS_ENDPOINT_URL"])

    def queue(name: str) -> str:
        return sqs.create_queue(QueueName=f"{mark}-{name}")["QueueUrl"]

    def delivered(name: str) -> tuple[str, str]:
        url = deliveries.create_queue(QueueName=f"{mark}-{name}")["QueueUrl"]
        attributes = deliveries.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
        return url, attributes["QueueArn"]

    watcher_url, watcher_arn = delivered("watcher")
    events.create_event_bus(Name=mark)
    events.put_rule(Name=mark, EventBusName=mark, EventPattern=json.dumps({"source": ["htcgrid"]}))
    events.put_targets(Rule=mark, EventBusName=mark, Targets=[{"Id": "watcher", "Arn": watcher_arn}])
    topic_queue_url, topic_queue_arn = delivered("topic")
    topic = sns.create_topic(Name=mark)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=topic_queue_arn)
    allowed = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": topic_queue_arn}
    deliveries.set_queue_attributes(
        QueueUrl=topic_queue_url, Attributes={"Policy": json.dumps({"Statement": [allowed]})}
    )
    boto3.client("s3").create_bucket(Bucket=mark)
    settings = Settings(
        sessions_table=create_table("SessionsTable", f"{mark}-sessions"),
        chunks_table=create_table("ChunksTable", f"{mark}-chunks"),
        dead_letters_table=create_table("DeadLettersTable", f"{mark}-dead-letters"),
        data_table=create_table("DataTable", f"{mark}-data"),
        connections_table=create_table("ConnectionsTable", f"{mark}-connections"),
        tenants_table=create_table("TenantsTable", f"{mark}-tenants"),
        tenant_limits=LIMITS.model_dump_json(),
        task_events_queue_url=queue("task-events"),
        data_bucket=mark,
        event_bus=mark,
        notification_topic=topic,
        push_endpoint=push.url,
        partitions_table=create_table("PartitionsTable", f"{mark}-partitions"),
        grid=mark,
        agent_workers=2,
        scaling_target_seconds=60,
        retention_days=7,
    )
    clock = HandClock()
    grid = ControlPlane(settings, clock)
    queues = {priority: queue(priority) for priority in Priority}
    grid.partition_registry.register(Partition("default", "the grid's own", queues))
    return Harness(grid, clock, sqs, deliveries, push, watcher_url, topic_queue_url)
