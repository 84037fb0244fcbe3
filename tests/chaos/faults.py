"""Faults for a running grid. Each has a name under which it is counted; a seeded generator says where it hits."""

import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import psutil
from agent.tests.proxy import Before, Fate, Network, Request

from htcgrid_chunks.state import ChunkState
from htcgrid_events import ChunkQueued
from tests.chaos.chaos_grid import LEASE, WITH_REDIS, ChaosGrid

_CALM = 0.01
"""The share of requests of agents and functions that always fails."""
_STORM = 0.3
_STORM_SECONDS = 2.0
_STALL_SECONDS = 2.0
_OUTAGE_SECONDS = LEASE.total_seconds() * 1.5
"""Longer than a lease, so that chunks are claimed again while their former attempts still wait to be written."""
_OF_JSON_SERVICES = [Fate.DELAY, Fate.DROP, Fate.RESET, Fate.FAIL, Fate.THROTTLE]
_OF_ANY_SERVICE = [Fate.DELAY, Fate.DROP, Fate.RESET, Fate.FAIL]
"""The answer of a service that throttles is written in JSON, which not all of them speak."""


@dataclass
class Faults:
    """Disturbs a grid until it is told to stop, and counts what it did."""

    grid: ChaosGrid
    rng: random.Random
    sessions: list[str] = field(default_factory=list)
    """The ids of sessions that were submitted."""
    done: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _rates: dict[str, float] = field(default_factory=dict)
    _out: set[str] = field(default_factory=set)
    """Services that agents cannot reach now."""

    def begin(self) -> None:
        """Let a few requests fail from now on."""
        self._rates.update(agents=_CALM, functions=_CALM)
        self.grid.agents_network.before = self._bad("agents", random.Random(self.rng.random()))
        self.grid.functions_network.before = self._bad("functions", random.Random(self.rng.random()))

    def end(self) -> None:
        """Let everything go well again."""
        for net in (self.grid.agents_network, self.grid.functions_network):
            _heal(net)
        self.grid.thaw()
        self.grid.feed_completions(fed=True)
        if self.grid.redis:
            self.grid.redis.recover()

    def strike(self, name: str) -> bool:
        """Do one of `ALL_FAULTS`; false if there was nothing to hit."""
        hit = ALL_FAULTS[name](self)
        if hit:
            self.count(name)
        return hit

    def count(self, name: str) -> None:
        """Note that something was done."""
        with self._lock:
            self.done[name] += 1

    # --- processes ---

    def kill_host(self) -> bool:
        """An agent and its workers are killed, as with their node."""
        return self._to_an_agent(self.grid.kill_host)

    def kill_agent(self) -> bool:
        """An agent is killed, and its workers are left behind."""
        return self._to_an_agent(lambda agent: self.grid.signal(agent, signal.SIGKILL))

    def drain_agent(self) -> bool:
        """An agent is told to end, as when its pod is evicted."""
        return self._to_an_agent(lambda agent: self.grid.signal(agent, signal.SIGTERM))

    def freeze_host(self) -> bool:
        """An agent and its workers stop, and go on when their leases are long over: zombies."""
        running = self.grid.running
        if not running:
            return False
        agent = self.rng.choice(running)
        seconds = LEASE.total_seconds() * self.rng.uniform(0.5, 1.5)
        pid = agent.pid
        self.grid.signal_host(agent, signal.SIGSTOP)

        def thaw() -> None:
            if agent.running and agent.pid == pid:
                self.grid.signal_host(agent, signal.SIGCONT)

        timer = threading.Timer(seconds, thaw)
        timer.daemon = True
        timer.start()
        return True

    def kill_worker(self) -> bool:
        """A runtime is killed."""
        workers = [worker for agent in self.grid.running for worker in self.grid.workers(agent)]
        if not workers:
            return False
        worker = self.rng.choice(workers)
        try:
            worker.kill()
        except psutil.NoSuchProcess:
            return False
        return True

    def _to_an_agent(self, deed: Callable[..., object]) -> bool:
        running = self.grid.running
        if running:
            deed(self.rng.choice(running))
        return bool(running)

    # --- messages ---

    def steal_tasks(self) -> bool:
        """Messages of a task queue are dropped, duplicated or delayed."""
        meddled = [self._meddle(url, "task message") for url in self.grid.task_queues]
        return any(meddled)

    def steal_events(self) -> bool:
        """Task events pile up; some are dropped, duplicated or delayed."""
        self.grid.feed_completions(fed=False)
        time.sleep(_STALL_SECONDS)
        meddled = [self._meddle(self.grid.events_queue, "task event") for _ in range(2)]
        self.grid.feed_completions(fed=True)
        return any(meddled)

    def _meddle(self, url: str, what: str) -> bool:
        sqs = self.grid.sqs
        received = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=5, WaitTimeSeconds=0
        ).get("Messages", [])
        for message in received:
            receipt = message["ReceiptHandle"]
            fate = self.rng.choice(["dropped", "duplicated", "delayed", "left"])
            if fate == "duplicated":
                self._send(url, message["Body"])
            try:
                if fate == "dropped":
                    sqs.delete_message(QueueUrl=url, ReceiptHandle=receipt)
                else:
                    hidden = self.rng.randint(2, 8) if fate == "delayed" else 0
                    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=hidden)
            except sqs.exceptions.ReceiptHandleIsInvalid:
                continue  # On a busy machine somebody else may have received it meanwhile.
            self.count(f"{what} {fate}")
        return bool(received)

    def _send(self, url: str, body: str) -> None:
        if url in self.grid.task_queues:
            tenant = ChunkQueued.model_validate_json(body).tenant
            self.grid.sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=tenant)
        else:
            self.grid.sqs.send_message(QueueUrl=url, MessageBody=body)

    def repeat_created(self) -> bool:
        """The event that starts a session's lifecycle comes once more."""
        created = [event for event in self.grid.bus_events if event["detail-type"] == "Session Created"]
        if not created:
            return False
        event = self.rng.choice(created)
        entry = {
            "EventBusName": self.grid.local.outputs["EventBusName"],
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": json.dumps(event["detail"]),
        }
        self.grid.local.client("events").put_events(Entries=[entry])
        return True

    # --- clocks ---

    def expire_lease(self) -> bool:
        """A running chunk's lease is over early, as for agents whose clocks are ahead, and its message is shown."""
        for session_id in self.rng.sample(self.sessions, len(self.sessions)):
            session = self.grid.session(session_id)
            running = [row for row in self.grid.rows(session_id) if row.state is ChunkState.RUNNING]
            if running:
                row = self.rng.choice(running)
                options = session.options
                queued = ChunkQueued(
                    session_id=session_id,
                    chunk=row.key.chunk,
                    tenant=session.tenant,
                    **options.model_dump(include=set(ChunkQueued.model_fields)),
                )
                if self.grid.expire(row, timedelta(seconds=1)):
                    self._send(self.grid.task_queues[1], queued.model_dump_json())
                    return True
        return False

    # --- networks ---

    def storm_agents(self) -> bool:
        """Nearly every third request of the agents fails for a while."""
        return self._storm("agents")

    def storm_functions(self) -> bool:
        """Nearly every third request of the functions fails for a while."""
        return self._storm("functions")

    def _storm(self, who: str) -> bool:
        self._rates[who] = _STORM
        timer = threading.Timer(_STORM_SECONDS, lambda: self._rates.update({who: _CALM}))
        timer.daemon = True
        timer.start()
        return True

    def lose_dynamodb(self) -> bool:
        """Agents cannot reach DynamoDB for longer than a lease, while everything else goes on."""
        return self._outage("dynamodb")

    def lose_sqs(self) -> bool:
        """Agents cannot reach SQS for longer than a lease, while everything else goes on."""
        return self._outage("sqs")

    def _outage(self, service: str) -> bool:
        with self._lock:
            if service in self._out:
                return False
            self._out.add(service)
        timer = threading.Timer(_OUTAGE_SECONDS, self._end_outage, [service])
        timer.daemon = True
        timer.start()
        return True

    def _end_outage(self, service: str) -> None:
        with self._lock:
            self._out.discard(service)

    # --- Redis ---

    def kill_redis(self) -> bool:
        """Redis is killed, and started again after a while."""
        return bool(self.grid.redis and self.grid.redis.kill_for(self.rng.uniform(0, 2) * LEASE.total_seconds()))

    def freeze_redis(self) -> bool:
        """Redis does not answer for a while."""
        return bool(self.grid.redis and self.grid.redis.freeze_for(self.rng.uniform(0, 2) * LEASE.total_seconds()))

    def empty_redis(self) -> bool:
        """Redis loses all that is in it."""
        return bool(self.grid.redis and self.grid.redis.empty())

    def _bad(self, who: str, rng: random.Random) -> Before:
        def before(request: Request) -> Fate:
            with self._lock:
                if who == "agents" and request.service in self._out:
                    self.done[f"request of agents during an outage of {request.service}"] += 1
                    return Fate.FAIL
                if rng.random() >= self._rates[who]:
                    return Fate.PASS
                json_service = request.name not in ("GetObject", "PutObject", "POST", "DELETE", "HEAD")
                fate = rng.choice(_OF_JSON_SERVICES if json_service else _OF_ANY_SERVICE)
                self.done[f"request of {who} {_WORDS[fate]}"] += 1
                return fate

        return before


_WORDS = {
    Fate.DELAY: "delayed",
    Fate.DROP: "dropped",
    Fate.RESET: "answered in vain",
    Fate.FAIL: "failed with 500",
    Fate.THROTTLE: "throttled",
}

FAULTS: dict[str, Callable[[Faults], bool]] = {
    "host killed": Faults.kill_host,
    "agent killed": Faults.kill_agent,
    "agent drained": Faults.drain_agent,
    "host frozen": Faults.freeze_host,
    "worker killed": Faults.kill_worker,
    "task messages meddled with": Faults.steal_tasks,
    "task events held up": Faults.steal_events,
    "session created twice": Faults.repeat_created,
    "lease expired early": Faults.expire_lease,
    "storm around agents": Faults.storm_agents,
    "storm around functions": Faults.storm_functions,
    "outage of DynamoDB": Faults.lose_dynamodb,
    "outage of SQS": Faults.lose_sqs,
}
_OF_REDIS: dict[str, Callable[[Faults], bool]] = {
    "Redis killed": Faults.kill_redis,
    "Redis frozen": Faults.freeze_redis,
}
_OF_A_CACHE: dict[str, Callable[[Faults], bool]] = {"Redis emptied": Faults.empty_redis}
ALL_FAULTS = FAULTS | _OF_REDIS | _OF_A_CACHE


def faults_of(store: str) -> dict[str, Callable[[Faults], bool]]:
    """What is done to a grid whose payloads lie in `store`."""
    if store not in WITH_REDIS:
        return FAULTS
    return ALL_FAULTS if store == "s3+redis" else FAULTS | _OF_REDIS


def _heal(net: Network) -> None:
    net.before = lambda request: Fate.PASS
