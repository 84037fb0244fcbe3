"""A whole local grid in which everything can be disturbed: its processes, its networks, its queues and its rows."""

import contextlib
import json
import os
import signal
import socket
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from agent.tests.proxy import Network, network

from htcgrid_chunks.attributes import Item
from htcgrid_chunks.chunk import Chunk
from htcgrid_chunks.clock import system_clock
from htcgrid_chunks.store import ChunkStore
from htcgrid_controlplane.rules.accounting import BucketAccount
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_local import LocalGrid
from htcgrid_local.agents import Agent
from htcgrid_local.home import Home
from htcgrid_local.processes import kill_group
from tests.chaos.chaos_redis import ChaosRedis, redis_of
from tests.support import permissions

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_sqs.client import SQSClient

FUNCTION = Path(__file__).parent / "function"
STORES = ("s3", "redis", "s3+redis", "filesystem")
WITH_REDIS = ("redis", "s3+redis")
"""Stores with a Redis."""
AGENTS = 2
WORKERS = 2
LEASE = timedelta(seconds=4)
"""Short, so that many are lost within a minute."""
_EVENTS_HIDDEN = timedelta(seconds=4)
"""For how long an event is hidden that the completions function could not deal with; in the template three minutes."""
_RESTART = timedelta(seconds=0.5)
"""Longest wait before a killed agent is started again: as for a pod that was evicted, not for one that crashes."""
_RETENTION_DAYS = 7
"""As in the template."""
_MARK = "HTCGRID_CHAOS"


@dataclass
class ChaosGrid:
    """The grid, and where to take hold of it."""

    local: LocalGrid
    mark: str
    agents_network: Network
    """Between the agents and AWS."""
    functions_network: Network
    """Between the functions and AWS."""
    bus_events: list[dict[str, Any]] = field(default_factory=list)
    """Everything that was put on the grid's bus, as it came."""
    redis: ChaosRedis | None = None
    """Where payloads lie, or are kept at hand, in a grid with such a store."""

    def __post_init__(self) -> None:
        """Make the clients, once."""
        self.dynamodb: DynamoDBClient = self.local.client("dynamodb")
        self.sqs: SQSClient = self.local.client("sqs")
        outputs = self.local.outputs
        self.chunks = ChunkStore(self.dynamodb, outputs["ChunksTable"])
        self.sessions = SessionStore(self.dynamodb, outputs["SessionsTable"], system_clock, _RETENTION_DAYS)
        self.accounts = AccountStore(self.dynamodb, outputs["ChunksTable"], outputs["SessionsTable"])
        self.task_queues = [outputs[f"TaskQueue{level}Url"] for level in ("High", "Normal", "Low")]
        self.events_queue = outputs["TaskEventsQueueUrl"]
        failed = ("UndeliverableQueueUrl", "TaskEventsDeadLetterQueueUrl", "BusDeadLetterQueueUrl")
        self.dead_letter_queues = [outputs[name] for name in failed]

    # --- processes ---

    @property
    def running(self) -> list[Agent]:
        """The agents that run now."""
        return [agent for agent in self.local.agents if agent.running]

    def kill_host(self, agent: Agent) -> None:
        """Kill an agent with its workers."""
        agent.pause = _RESTART
        kill_group(agent.pid)

    def signal(self, agent: Agent, number: int) -> None:
        """Send a signal to the agent alone."""
        agent.pause = _RESTART
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent.pid, number)

    def signal_host(self, agent: Agent, number: int) -> None:
        """Send a signal to an agent and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(agent.pid, number)

    def workers(self, agent: Agent) -> list[psutil.Process]:
        """The runtimes of an agent."""
        try:
            return psutil.Process(agent.pid).children()
        except psutil.NoSuchProcess:
            return []

    def thaw(self) -> None:
        """Let every process go on that was stopped, and let those be started soon that have died."""
        for agent in self.local.agents:
            agent.pause = _RESTART
            self.signal_host(agent, signal.SIGCONT)

    # --- what the grid has stored ---

    def session(self, session_id: str) -> Session:
        """The row of a session."""
        return self.sessions.read(session_id)

    def rows(self, session_id: str) -> list[Chunk]:
        """The rows of a session's chunks."""
        session = self.session(session_id)
        return [row for bucket in range(session.buckets) for row in self.chunks.rows(session, bucket)]

    def row(self, session_id: str, chunk: int) -> Chunk | None:
        """The row of a chunk."""
        return self.chunks.read(self.session(session_id), chunk)

    def bucket_accounts(self, session_id: str) -> list[BucketAccount]:
        """The accounts of a session's buckets."""
        session = self.session(session_id)
        return self.accounts.read(session, range(session.buckets))

    def tenant_counts(self) -> Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
        """Each tenant with the open sessions and tasks that its row counts, and those that its sessions' rows say."""
        outputs, scan = self.local.outputs, self.dynamodb.get_paginator("scan")
        noted: defaultdict[str, list[int]] = defaultdict(list)
        for page in scan.paginate(TableName=outputs["SessionsTable"], ConsistentRead=True):
            for row in map(Item, page["Items"]):
                if "counted_tasks" in row:
                    noted[row.text("tenant")].append(row.number("counted_tasks"))
        for page in scan.paginate(TableName=outputs["TenantsTable"], ConsistentRead=True):
            for row in map(Item, page["Items"]):
                tenant = row.text("tenant")
                counted = row.number("open_sessions"), row.number("tasks")
                yield tenant, counted, (len(noted[tenant]), sum(noted[tenant]))

    def messages(self, url: str) -> int:
        """How many messages a queue holds, hidden ones too."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]  # type: ignore[arg-type]
        return sum(int(value) for value in attributes.values())

    def requests(self) -> dict[str, int]:
        """How often each operation of AWS was asked for."""
        return self.local.counted("requests")

    # --- workflows and functions ---

    def run_expired_leases(self) -> str:
        """Do what the schedule does once a minute. Gives how it ended."""
        states = self.local.client("stepfunctions")
        execution = states.start_execution(stateMachineArn=self.local.outputs["ExpiredLeasesArn"])["executionArn"]
        while (status := states.describe_execution(executionArn=execution)["status"]) == "RUNNING":
            time.sleep(0.1)
        return str(status)

    def feed_completions(self, *, fed: bool) -> None:
        """Let the completions function receive task events, or not."""
        functions = self.local.client("lambda")
        for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
            if mapping["EventSourceArn"].endswith(self.events_queue.rpartition("/")[2]):
                functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=fed)

    # --- clocks ---

    def expire(self, chunk: Chunk, ago: timedelta) -> bool:
        """Let the wait of a chunk, its lease or its backoff, have ended so long ago; false if it has changed."""
        return self._set(chunk, "claimable_at", _before_now(ago))

    def age(self, chunk: Chunk, ago: timedelta) -> bool:
        """Let a chunk have been left alone for so long; false if it has changed."""
        return all(
            self._set(chunk, name, _before_now(ago)) for name in ("submitted_at", "finished_at") if _has(chunk, name)
        )

    def make_sweep_due(self, session_id: str) -> None:
        """Let a session be looked through with the next run, and not minutes after its creation."""
        with contextlib.suppress(self.dynamodb.exceptions.ConditionalCheckFailedException):
            self.dynamodb.update_item(
                TableName=self.local.outputs["SessionsTable"],
                Key={"session_id": {"S": session_id}},
                UpdateExpression="SET sweep_at = :past",
                ConditionExpression="attribute_exists(sweep_at)",
                ExpressionAttributeValues={":past": {"N": "1"}},
            )

    def _set(self, chunk: Chunk, name: str, value: int) -> bool:
        try:
            self.dynamodb.update_item(
                TableName=self.local.outputs["ChunksTable"],
                Key={"bucket": {"S": chunk.key.partition_key}, "chunk": {"N": str(chunk.key.chunk)}},
                UpdateExpression=f"SET {name} = :value",
                ConditionExpression="#state = :state AND attempt = :attempt"
                + ("" if chunk.finished else " AND claimable_at = :claimable"),
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={
                    ":value": {"N": str(value)},
                    ":state": {"S": chunk.state},
                    ":attempt": {"N": str(chunk.attempt)},
                    **({} if chunk.finished else {":claimable": {"N": str(chunk.claimable_at)}}),
                },
            )
        except self.dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        return True


@contextmanager
def chaos_grid(store: str = "s3") -> Iterator[ChaosGrid]:
    """A grid of its own, whose large payloads lie in `store`; afterwards no process of it may be left, which
    `left_behind` tells."""
    port, mark = _free_port(), uuid.uuid4().hex
    endpoint = f"http://127.0.0.1:{port}"
    with (
        network(endpoint) as agents_network,
        network(endpoint) as functions_network,
        socket.create_server(("127.0.0.1", 0)) as listener,
        tempfile.TemporaryDirectory(prefix="htcgrid-chaos-") as home,
        LocalGrid(
            Path(home),
            function=FUNCTION,
            agents=AGENTS,
            workers=WORKERS,
            port=port,
            store=store,
            environment={
                "AWS_ENDPOINT_URL": agents_network.url,
                "HTCGRID_LEASE_SECONDS": str(int(LEASE.total_seconds())),
                "HTCGRID_GRACE_SECONDS": "2",
                "HTCGRID_FUNCTION_ENVIRONMENT": json.dumps(
                    {_MARK: mark, "CHAOS_EXECUTIONER_PORT": str(listener.getsockname()[1])}
                ),
                _MARK: mark,
            },
        ) as local,
    ):
        here = ChaosGrid(local, mark, agents_network, functions_network)
        _send_functions_through(here)
        here.sqs.set_queue_attributes(
            QueueUrl=here.events_queue,
            Attributes={"VisibilityTimeout": str(int(_EVENTS_HIDDEN.total_seconds()))},
        )
        with _listening(here), _executioner(here, listener), _redis(here, Home(Path(home)), store):
            yield here
        permissions.note(local)


def left_behind(mark: str) -> list[str]:
    """Agents and runtimes of a grid that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except psutil.Error:
            continue
    return found


def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition comes true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _send_functions_through(here: ChaosGrid) -> None:
    """Let the functions reach AWS through their network, and wait until they have started anew."""
    functions = here.local.client("lambda")
    for function in functions.list_functions()["Functions"]:
        variables = function.get("Environment", {}).get("Variables", {})
        functions.update_function_configuration(
            FunctionName=function["FunctionName"],
            Environment={"Variables": variables | {"AWS_ENDPOINT_URL": here.functions_network.url}},
        )
    if errors := here.local.warm_functions():
        raise AssertionError(f"functions do not start: {errors}")


@contextmanager
def _redis(here: ChaosGrid, home: Home, store: str) -> Iterator[None]:
    """Take hold of the grid's Redis, if it has one."""
    if store not in WITH_REDIS:
        yield
        return
    with redis_of(here.local, home) as here.redis:
        yield


@contextmanager
def _listening(here: ChaosGrid) -> Iterator[None]:
    """Keep everything that is put on the grid's bus."""
    name = "chaos-watcher"
    url = here.sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = here.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allowed = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": arn}
    here.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Statement": [allowed]})})
    events, bus = here.local.client("events"), here.local.outputs["EventBusName"]
    events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps({"source": ["htcgrid"]}))
    events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": name, "Arn": arn}])
    closed = threading.Event()

    def listen() -> None:
        while not closed.is_set():
            messages = here.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in messages.get("Messages", []):
                here.bus_events.append(json.loads(message["Body"]))
                here.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    thread = threading.Thread(target=listen, name=name)
    thread.start()
    try:
        yield
    finally:
        closed.set()
        thread.join()


@contextmanager
def _executioner(here: ChaosGrid, listener: socket.socket) -> Iterator[None]:
    """Kill the agent of every task that connects to the listener."""

    def serve() -> None:
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return
            with connection:
                for agent in here.running:
                    if _is_of(agent, peer):
                        here.signal(agent, signal.SIGKILL)

    thread = threading.Thread(target=serve, name="chaos-executioner", daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _is_of(agent: Agent, peer: tuple[str, int]) -> bool:
    """Whether a connection's other end is a process that an agent started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(agent.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if any(found.laddr == peer for found in process.net_connections(kind="tcp")):
                    return True
    return False


def _before_now(ago: timedelta) -> int:
    return int((time.time() - ago.total_seconds()) * 1000)


def _has(chunk: Chunk, name: str) -> bool:
    return bool(getattr(chunk.stages, name))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
