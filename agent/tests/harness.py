"""A compute plane's surroundings on the embedded AWS, and agents as real processes in them."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import psutil
from agent.tests.embedded import Embedded, until

from htcgrid_chunks.chunk import (
    Chunk,
    ChunkKey,
    Payload,
)
from htcgrid_chunks.clock import system_clock
from htcgrid_chunks.state import ChunkState
from htcgrid_chunks.store import ChunkStore
from htcgrid_dataplane import data_key, decode_lines, encode_lines, input_key, result_key
from htcgrid_dataplane.s3 import S3Store
from htcgrid_events import (
    INLINE_BYTES,
    ChunkFinished,
    ChunkOutcome,
    ChunkQueued,
    DataReference,
    OutcomeCode,
    PartialOutcome,
    Priority,
    Stages,
    TaskError,
    TasksRetrying,
    WorkDone,
)
from htcgrid_local.keys import Key

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient

PYTHON_RUNTIMES = ("python", "python-lambda")
FUNCTION = Path(__file__).parent / "function"
TENANT = "tenant-1"
REGION = "us-east-1"


@dataclass
class Session:
    """What was submitted together."""

    session_id: str
    sizes: list[int]

    def key(self, chunk: int) -> ChunkKey:
        return ChunkKey(self.session_id, chunk)

    def owns(self, chunk: Chunk) -> bool:
        return chunk.tenant == TENANT


@dataclass
class AgentProcess:
    """An agent, which may be ended in every way."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children()

    @property
    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"timestamp"')]

    def said(self, words: str) -> bool:
        return any(words in line["message"] for line in self.log_lines)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, within: float = 60) -> int:
        """Ask it to end, and give the exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.process.wait(within)


@dataclass
class Place:
    """Queues, a table and a bucket for one test."""

    embedded: Embedded
    folder: Path
    sqs: "SQSClient"
    dynamodb: "DynamoDBClient"
    s3: "S3Client"
    mark: str
    queue_urls: dict[Priority, str]
    events_url: str
    agents: list[AgentProcess] = field(default_factory=list)
    outcomes: dict[ChunkKey, list[ChunkOutcome]] = field(default_factory=dict)
    work: dict[ChunkKey, list[WorkDone]] = field(default_factory=dict)
    retries: list[TasksRetrying] = field(default_factory=list)
    endpoint: str = ""
    runtime: str = "auto"

    @property
    def store(self) -> ChunkStore:
        return ChunkStore(self.dynamodb, self.mark)

    @property
    def payloads(self) -> S3Store:
        return S3Store(self.s3, self.mark)

    def environment(self, **settings: object) -> dict[str, str]:
        """The variables of an agent, with more or other settings. Those in capitals are named in full."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            **self._endpoints(),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            **self.embedded.key.environment(),
            "AWS_EC2_METADATA_DISABLED": "true",
            "HTCGRID_CHUNKS_TABLE": self.mark,
            "HTCGRID_TASK_QUEUE_URLS": json.dumps(self.queue_urls),
            "HTCGRID_TASK_EVENTS_QUEUE_URL": self.events_url,
            "HTCGRID_DATA_BUCKET": self.mark,
            "HTCGRID_DATA_DIR": str(self.folder / "shared-data"),
            "HTCGRID_FUNCTION_DIR": str(FUNCTION),
            "HTCGRID_HANDLER": "handler.handler",
            "HTCGRID_RUNTIME": self.runtime,
            "HTCGRID_WORKERS": "2",
            "HTCGRID_SHARED_DIRS": json.dumps([str(self.folder)]),
            "HTCGRID_FUNCTION_ENVIRONMENT": json.dumps({"PLACE": self.mark}),
        }
        for name, value in settings.items():
            environment[name if name.isupper() else f"HTCGRID_{name.upper()}"] = _setting(value)
        return environment

    def _endpoints(self) -> dict[str, str]:
        if self.endpoint:
            return {"AWS_ENDPOINT_URL": self.endpoint}
        return {"AWS_ENDPOINT_URL": self.embedded.url, **self.embedded.elsewhere}

    def agent(self, **settings: object) -> AgentProcess:
        """Start an agent."""
        return self._start(sys.executable, -1, settings)

    def agent_of(self, python: str | Path, *, umask: int = -1, **settings: object) -> AgentProcess:
        """Start an agent by another Python of the same packages."""
        return self._start(python, umask, settings)

    def _start(self, python: str | Path, umask: int, settings: Mapping[str, object]) -> AgentProcess:
        log = self.folder / f"agent-{len(self.agents)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [python, "-m", "htcgrid_agent"],
                env=self.environment(**settings),
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                umask=umask,
            )
        agent = AgentProcess(process, log)
        self.agents.append(agent)
        return agent

    def submit(
        self,
        *chunks: Sequence[object],
        priority: Priority = Priority.NORMAL,
        max_retries: int = 1,
        timeout: int = 60,
        messages: int = 1,
        **policy: Any,
    ) -> Session:
        """Insert a session's chunks, each a list of events, and send `messages` for each."""
        session = Session(uuid.uuid4().hex, [len(chunk) for chunk in chunks])
        rows, first, now = [], 0, system_clock()
        for number, events in enumerate(chunks):
            data = encode_lines([json.dumps(event).encode() for event in events])
            inputs = Payload(data)
            if len(data) > INLINE_BYTES:
                self.payloads.put(input_key(TENANT, session.session_id, number), data)
                inputs = Payload(stored_bytes=len(data))
            size = len(events)
            rows.append(
                Chunk(
                    session.key(number),
                    TENANT,
                    ChunkState.QUEUED,
                    first,
                    size,
                    0,
                    inputs,
                    OutcomeCode.OPEN.value * size,
                    stages=Stages(submitted_at=now),
                    expires_at=now // 1000 + 3600,
                )
            )
            first += size
        self.store.insert(rows)
        for _ in range(messages):
            for number in range(len(chunks)):
                self.send(session, number, priority, max_retries, timeout, **policy)
        return session

    def send(
        self,
        session: Session,
        chunk: int,
        priority: Priority = Priority.NORMAL,
        max_retries: int = 1,
        timeout: int = 60,
        **policy: Any,
    ) -> None:
        """Send one message for a chunk. Retries wait for 50 ms unless `policy` says otherwise."""
        queued = ChunkQueued(
            session_id=session.session_id,
            chunk=chunk,
            tenant=TENANT,
            max_retries=max_retries,
            task_timeout_seconds=timeout,
            **{"retry_base_seconds": 0.05, **policy},
        )
        self.sqs.send_message(
            QueueUrl=self.queue_urls[priority], MessageBody=queued.model_dump_json(), MessageGroupId=TENANT
        )

    def put_data(self, content: bytes, name: str = "data.bin", *, folder: bool = False, tenant: str = TENANT) -> Any:
        """Store shared data, and give what refers to it in an event."""
        digest = hashlib.sha256(content).hexdigest()
        self.s3.put_object(Bucket=self.mark, Key=data_key(tenant, digest), Body=content)
        return DataReference(sha256=digest, bytes=len(content), name=name, folder=folder).in_event()

    def row(self, session: Session, chunk: int = 0) -> Chunk:
        row = self.store.read(session, chunk)
        assert row
        return row

    def receive_events(self, wait: int = 1) -> None:
        """Take what lies in the events queue."""
        response = self.sqs.receive_message(QueueUrl=self.events_url, MaxNumberOfMessages=10, WaitTimeSeconds=wait)
        for message in response.get("Messages", []):
            self.sqs.delete_message(QueueUrl=self.events_url, ReceiptHandle=message["ReceiptHandle"])
            if "retry_at" in message["Body"]:
                self.retries.append(TasksRetrying.model_validate_json(message["Body"]))
                continue
            event = ChunkFinished.model_validate_json(message["Body"])
            key = ChunkKey(event.session_id, event.outcome.chunk)
            self.outcomes.setdefault(key, []).append(event.outcome)
            self.work.setdefault(key, []).append(event.work)

    def events_of(self, session: Session, chunk: int = 0) -> list[ChunkOutcome]:
        """All events of a chunk that have come."""
        self.receive_events()
        return self.outcomes.get(session.key(chunk), [])

    def finished(self, session: Session, within: float = 60) -> list[ChunkOutcome]:
        """Wait for the events of all chunks of a session; all events of a chunk must say the same."""
        keys = [session.key(chunk) for chunk in range(len(session.sizes))]

        def complete() -> bool:
            self.receive_events()
            return all(key in self.outcomes for key in keys)

        until(complete, within)
        for key in keys:
            assert all(again == self.outcomes[key][0] for again in self.outcomes[key])
        return [self.outcomes[key][0] for key in keys]

    def lines(self, session: Session, outcome: PartialOutcome) -> list[bytes]:
        """The result lines of a chunk."""
        if outcome.results is not None:
            return decode_lines(outcome.results, outcome.size)
        key = result_key(TENANT, session.session_id, outcome.chunk, outcome.attempt)
        assert outcome.stored_bytes is not None
        return decode_lines(self.payloads.get(key, outcome.stored_bytes), outcome.size)

    def results(self, session: Session, within: float = 60) -> list[Any]:
        """What became of all tasks of a session: a result each, or a `TaskError`."""
        return [
            TaskError.model_validate_json(line) if code == OutcomeCode.FAILED.value else json.loads(line)
            for outcome in self.finished(session, within)
            for code, line in zip(outcome.outcomes, self.lines(session, outcome), strict=True)
        ]

    def messages(self) -> int:
        """How many messages are in the task queues, seen or hidden."""
        count = 0
        for url in self.queue_urls.values():
            attributes = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            count += int(attributes["ApproximateNumberOfMessages"])
            count += int(attributes["ApproximateNumberOfMessagesNotVisible"])
        return count

    def is_clean(self) -> bool:
        """Whether no message is left in the task queues."""
        return self.messages() == 0

    def processes(self) -> list[psutil.Process]:
        """Workers of this place that run, and whatever they started."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("PLACE") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def close_agents(self) -> None:
        """End all agents."""
        for agent in self.agents:
            if agent.process.poll() is None:
                agent.end()

    def close(self) -> None:
        """End all agents and see that nothing is left of them."""
        self.close_agents()
        until(lambda: not self.processes())


def _setting(value: object) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


@cache
def _clients(key: Key, sqs_url: str, dynamodb_url: str, s3_url: str) -> "tuple[SQSClient, DynamoDBClient, S3Client]":
    """Made once, since making them takes longer than many a test."""
    session = boto3.session.Session(
        aws_access_key_id=key.access_key_id, aws_secret_access_key=key.secret_access_key, region_name=REGION
    )
    return (
        session.client("sqs", endpoint_url=sqs_url),
        session.client("dynamodb", endpoint_url=dynamodb_url),
        session.client("s3", endpoint_url=s3_url),
    )


@contextmanager
def place_at(embedded: Embedded, folder: Path) -> Iterator[Place]:
    """A new place on the embedded AWS."""
    mark = f"place-{uuid.uuid4().hex[:12]}"
    sqs, dynamodb, s3 = _clients(embedded.key, *(embedded.url_of(service) for service in ("sqs", "dynamodb", "s3")))
    dynamodb.create_table(
        TableName=mark,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "bucket", "AttributeType": "S"},
            {"AttributeName": "chunk", "AttributeType": "N"},
        ],
        KeySchema=[{"AttributeName": "bucket", "KeyType": "HASH"}, {"AttributeName": "chunk", "KeyType": "RANGE"}],
    )
    s3.create_bucket(Bucket=mark)
    urls = {priority: sqs.create_queue(QueueName=f"{mark}-{priority}")["QueueUrl"] for priority in Priority}
    events = sqs.create_queue(QueueName=f"{mark}-events")["QueueUrl"]
    place = Place(embedded, folder, sqs, dynamodb, s3, mark, urls, events)
    try:
        yield place
    finally:
        place.close()
