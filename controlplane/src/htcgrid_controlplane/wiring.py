"""Builds the control plane's parts over real AWS clients. One client of each service a process."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from htcgrid_chunks.clock import (
    Clock,
    system_clock,
)
from htcgrid_chunks.store import ChunkStore
from htcgrid_controlplane.outbound.announcements import Announcements
from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.outbound.executions import Executions
from htcgrid_controlplane.outbound.metrics import CountMetric, count_nothing
from htcgrid_controlplane.outbound.partition_metrics import PartitionMetrics
from htcgrid_controlplane.outbound.push import PushGateway
from htcgrid_controlplane.outbound.sqs import MessageSender
from htcgrid_controlplane.outbound.task_events import TaskEvents
from htcgrid_controlplane.outbound.task_queues import TaskQueues
from htcgrid_controlplane.outbound.topic import NotificationTopic
from htcgrid_controlplane.outbound.waker import Waker
from htcgrid_controlplane.rules.scaling import Pool
from htcgrid_controlplane.services.budgets import Budgets
from htcgrid_controlplane.services.completion import Completions
from htcgrid_controlplane.services.dead_letters import DeadLetters
from htcgrid_controlplane.services.giving_up import GivingUp
from htcgrid_controlplane.services.lifecycle import Lifecycle
from htcgrid_controlplane.services.links import Links
from htcgrid_controlplane.services.measuring import Measurements
from htcgrid_controlplane.services.partitions import Partitions
from htcgrid_controlplane.services.pausing import Pausing
from htcgrid_controlplane.services.queries import Queries
from htcgrid_controlplane.services.quotas import Quotas
from htcgrid_controlplane.services.recounts import Recounts
from htcgrid_controlplane.services.recovery import Recovery
from htcgrid_controlplane.services.redrives import Redrives
from htcgrid_controlplane.services.relay import Relay
from htcgrid_controlplane.services.scaling import Scaling
from htcgrid_controlplane.services.shared_data import SharedData
from htcgrid_controlplane.services.stopping import Stops
from htcgrid_controlplane.services.submission import Submissions
from htcgrid_controlplane.services.sweeping import Sweeping
from htcgrid_controlplane.services.undeliverable import UndeliverableMessages
from htcgrid_controlplane.settings import Settings
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.dead_letters import DeadLetterStore
from htcgrid_controlplane.storage.known_partitions import KnownPartitions
from htcgrid_controlplane.storage.lease_index import LeaseStore
from htcgrid_controlplane.storage.partition_registry import PartitionRegistry
from htcgrid_controlplane.storage.partitions import PartitionStore
from htcgrid_controlplane.storage.preloads import PreloadStore
from htcgrid_controlplane.storage.redrive import RedriveStore
from htcgrid_controlplane.storage.reported_chunks import ReportedChunks
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_controlplane.storage.shared_data import SharedDataStore
from htcgrid_controlplane.storage.subscribers import SubscriberStore
from htcgrid_controlplane.storage.sweep_index import SweepStore
from htcgrid_controlplane.storage.tenants import TenantStore
from htcgrid_dataplane.s3 import S3Store
from htcgrid_dataplane.shared_objects import SharedObjects
from htcgrid_dataplane.stores import Stores

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_stepfunctions.client import SFNClient

_CONFIG = Config(retries={"mode": "standard", "max_attempts": 4}, connect_timeout=2, read_timeout=10)
_IMPATIENT = {"redis": {"patience_seconds": "5"}}
"""Settings of stores that would else wait longer than the API may: who asks is told 503, and asks again."""
_PUSH_CONFIG = _CONFIG.merge(Config(retries={"mode": "standard", "max_attempts": 2}, connect_timeout=1, read_timeout=3))
"""A push is worth no long wait: who misses it asks for it."""


@dataclass(frozen=True)
class ControlPlane:
    """Every part of the control plane, made when first asked for: a function pays only for what it uses."""

    settings: Settings
    clock: Clock = system_clock
    count: CountMetric = count_nothing
    """Publishes what went wrong with requests to AWS."""

    @cached_property
    def submissions(self) -> Submissions:
        """Takes sessions and chunks over."""
        return Submissions(
            quotas=self.quotas,
            sessions=self.sessions,
            chunks=self.chunks,
            accounts=self.accounts,
            subscribers=self.subscribers,
            queues=self.queues,
            partitions=self.known_partitions,
            bus=self.bus,
            budgets=self.budgets,
            stops=self.stops,
            waker=self.waker,
            shared_data=self.shared_data,
            clock=self.clock,
            retention_days=self.settings.retention_days,
            store_names=self.stores.names,
        )

    @cached_property
    def shared_data(self) -> SharedData:
        """Keeps data that tasks share."""
        return SharedData(
            rows=SharedDataStore(self._dynamodb, self.settings.data_table),
            preloads=PreloadStore(self._dynamodb, self.settings.partitions_table),
            objects=SharedObjects(self._s3, self.settings.data_bucket),
            tenants=self.tenants,
            clock=self.clock,
            retention_days=self.settings.retention_days,
        )

    @cached_property
    def completions(self) -> Completions:
        """Counts finished chunks."""
        return Completions(
            reported=ReportedChunks(
                self._dynamodb, self.settings.sessions_table, self.settings.chunks_table, self.clock
            ),
            sessions=self.sessions,
            accounts=self.accounts,
            announcements=self.announcements,
            budgets=self.budgets,
            measurements=self.measurements,
            waker=self.waker,
            clock=self.clock,
        )

    @cached_property
    def measurements(self) -> Measurements:
        """Gathers what workers did."""
        return Measurements(self.partitions, self.clock)

    @cached_property
    def scaling(self) -> Scaling:
        """Tells how many agents are wanted."""
        metrics = PartitionMetrics(boto3.client("cloudwatch", config=_CONFIG), self.settings.grid)
        target = timedelta(seconds=self.settings.scaling_target_seconds)
        pool = Pool(self.settings.agent_workers, target)
        return Scaling(self.queues, self.known_partitions, self.partitions, metrics, pool, self.clock)

    @cached_property
    def partitions(self) -> PartitionStore:
        """The partitions table."""
        return PartitionStore(self._dynamodb, self.settings.partitions_table)

    @cached_property
    def known_partitions(self) -> KnownPartitions:
        """Which partitions there are."""
        return KnownPartitions(self.partition_registry.partitions, self.clock)

    @cached_property
    def stack_partitions(self) -> Partitions:
        """Registers partitions for their stacks."""
        store = SweepStore(self._dynamodb, self.settings.sessions_table)
        return Partitions(self.partition_registry, store, self.sessions, self.clock)

    @cached_property
    def partition_registry(self) -> PartitionRegistry:
        """The registry of partitions."""
        return PartitionRegistry(self._dynamodb, self.settings.partitions_table)

    @cached_property
    def lifecycle(self) -> Lifecycle:
        """Ends sessions."""
        return Lifecycle(
            sessions=self.sessions,
            chunks=self.chunks,
            accounts=self.accounts,
            tenants=self.tenants,
            announcements=self.announcements,
            stops=self.stops,
            waker=self.waker,
            clock=self.clock,
        )

    @cached_property
    def pausing(self) -> Pausing:
        """Pauses and resumes sessions."""
        return Pausing(quotas=self.quotas, sessions=self.sessions, chunks=self.chunks, queues=self.queues, bus=self.bus)

    @cached_property
    def recounts(self) -> Recounts:
        """Mends accounts."""
        return Recounts(
            sessions=self.sessions, chunks=self.chunks, accounts=self.accounts, bus=self.bus, clock=self.clock
        )

    @cached_property
    def queries(self) -> Queries:
        """Answers questions."""
        return Queries(
            sessions=self.sessions,
            chunks=self.chunks,
            accounts=self.accounts,
            subscribers=self.subscribers,
            stores=self.stores,
            links=self.links,
        )

    @cached_property
    def stops(self) -> Stops:
        """Tells sessions to stop."""
        return Stops(sessions=self.sessions, bus=self.bus, waker=self.waker)

    @cached_property
    def budgets(self) -> Budgets:
        """Counts failures against budgets."""
        return Budgets(sessions=self.sessions, accounts=self.accounts, stops=self.stops)

    @cached_property
    def recovery(self) -> Recovery:
        """Repairs chunks that nobody takes care of."""
        return Recovery(
            sessions=self.sessions,
            leases=self.leases,
            queues=self.queues,
            task_events=self.task_events,
            giving_up=self.giving_up,
            bus=self.bus,
            clock=self.clock,
        )

    @cached_property
    def undeliverable(self) -> UndeliverableMessages:
        """Handles messages that no agent could handle."""
        return UndeliverableMessages(
            sessions=self.sessions,
            chunks=self.chunks,
            accounts=self.accounts,
            giving_up=self.giving_up,
            queues=self.queues,
            task_events=self.task_events,
            bus=self.bus,
            clock=self.clock,
        )

    @cached_property
    def giving_up(self) -> GivingUp:
        """Ends chunks without agents."""
        return GivingUp(self.chunks, self.leases, self.stores, self.clock)

    @cached_property
    def leases(self) -> LeaseStore:
        """The index of leases."""
        return LeaseStore(self._dynamodb, self.settings.chunks_table)

    @cached_property
    def task_events(self) -> TaskEvents:
        """The queue of task events."""
        return TaskEvents(self._sender, self.settings.task_events_queue_url)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        """Keeps tasks that failed for good."""
        return DeadLetters(
            sessions=self.sessions,
            chunks=self.chunks,
            accounts=self.accounts,
            store=DeadLetterStore(self._dynamodb, self.settings.dead_letters_table),
            stores=self.stores,
        )

    @cached_property
    def redrives(self) -> Redrives:
        """Lets dead letters run again."""
        return Redrives(
            sessions=self.sessions,
            letters=self.dead_letters,
            chunks=self.chunks,
            accounts=self.accounts,
            store=RedriveStore(self._dynamodb, self.settings.sessions_table, self.settings.chunks_table, self.tenants),
            stores=self.stores,
            queues=self.queues,
            partitions=self.known_partitions,
            bus=self.bus,
            clock=self.clock,
        )

    @cached_property
    def sweeping(self) -> Sweeping:
        """Sweeps open sessions for what got lost."""
        return Sweeping(
            store=SweepStore(self._dynamodb, self.settings.sessions_table),
            sessions=self.sessions,
            accounts=self.accounts,
            recovery=self.recovery,
            queues=self.queues,
            task_events=self.task_events,
            executions=Executions(self._states),
            bus=self.bus,
            waker=self.waker,
            clock=self.clock,
        )

    @cached_property
    def queues(self) -> TaskQueues:
        """The task queues."""
        return TaskQueues(self._sender, self.known_partitions)

    @cached_property
    def relay(self) -> Relay:
        """Gives clients access to payloads."""
        return Relay(self.stores, self.links, self.quotas)

    @cached_property
    def links(self) -> Links:
        """Where clients reach payloads."""
        return Links(self.bucket)

    @cached_property
    def stores(self) -> Stores:
        """The data plane."""
        known = {name: _IMPATIENT.get(name, {}) | settings for name, settings in self.settings.stores.items()}
        return Stores(self.settings.store, known, self.bucket)

    @cached_property
    def bucket(self) -> S3Store:
        """The payload store on the grid's bucket."""
        return S3Store(self._s3, self.settings.data_bucket)

    @cached_property
    def announcements(self) -> Announcements:
        """Announces outcomes and verdicts."""
        topic = NotificationTopic(
            boto3.client("sns", config=_PUSH_CONFIG), self.settings.notification_topic, self.count
        )
        return Announcements(self.bus, self.push, topic)

    @cached_property
    def subscribers(self) -> SubscriberStore:
        """The connections table."""
        return SubscriberStore(self._dynamodb, self.settings.connections_table)

    @cached_property
    def push(self) -> PushGateway:
        """Push connections."""
        client = boto3.client("apigatewaymanagementapi", endpoint_url=self.settings.push_endpoint, config=_PUSH_CONFIG)
        return PushGateway(client, self.subscribers, self.count)

    @cached_property
    def quotas(self) -> Quotas:
        """Keeps tenants to their limits."""
        return Quotas(self.tenants, self.sessions, self.clock)

    @cached_property
    def tenants(self) -> TenantStore:
        """The tenants table."""
        return TenantStore(self._dynamodb, self.settings.tenants_table, self.settings.tenant_limits)

    @cached_property
    def sessions(self) -> SessionStore:
        """The sessions table."""
        return SessionStore(self._dynamodb, self.settings.sessions_table, self.clock, self.settings.retention_days)

    @cached_property
    def chunks(self) -> ChunkStore:
        """The chunks table."""
        return ChunkStore(self._dynamodb, self.settings.chunks_table)

    @cached_property
    def accounts(self) -> AccountStore:
        """The bucket accounts in the chunks table."""
        return AccountStore(self._dynamodb, self.settings.chunks_table, self.settings.sessions_table)

    @cached_property
    def bus(self) -> EventBus:
        """The event bus."""
        return EventBus(boto3.client("events", config=_CONFIG), self.settings.event_bus, self.count)

    @cached_property
    def waker(self) -> Waker:
        """Wakes lifecycle workflows."""
        return Waker(self._states)

    @cached_property
    def _s3(self) -> "S3Client":
        # Presigned URLs are to name the regional endpoint and carry a version 4 signature, which KMS keys require.
        return boto3.client("s3", config=_CONFIG.merge(Config(signature_version="s3v4")))

    @cached_property
    def _states(self) -> "SFNClient":
        return boto3.client("stepfunctions", config=_CONFIG)

    @cached_property
    def _sender(self) -> MessageSender:
        return MessageSender(boto3.client("sqs", config=_CONFIG), self.count)

    @cached_property
    def _dynamodb(self) -> "DynamoDBClient":
        return boto3.client("dynamodb", config=_CONFIG)
