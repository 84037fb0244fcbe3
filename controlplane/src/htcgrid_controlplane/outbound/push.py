"""Pushes frames to subscribers over their WebSocket connections."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_controlplane.outbound.metrics import CountMetric, count_nothing
from htcgrid_controlplane.storage.subscribers import SubscriberStore
from htcgrid_events import MAX_PUSH_BYTES, ChunkOutcome, ChunksFrame, Contract, PartialOutcome

if TYPE_CHECKING:
    from mypy_boto3_apigatewaymanagementapi.client import ApiGatewayManagementApiClient

_LOG = logging.getLogger(__name__)
MAX_PUSH_TIME = timedelta(seconds=6)
"""After so long a call begins with no further subscriber: the function that counts outcomes has 28 s in all."""


class PushGateway:
    """Delivers frames to whoever is connected. A push may be lost: subscribers ask the API for what they miss."""

    def __init__(
        self,
        client: "ApiGatewayManagementApiClient",
        subscribers: SubscriberStore,
        count: CountMetric = count_nothing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._subscribers = subscribers
        self._count = count
        self._clock = clock

    def push(self, tenant: str, subscriber_ids: Iterable[str], frames: Iterable[Contract]) -> None:
        """Push frames to each of these subscribers of a tenant that has a connection. A push that fails is logged and
        counted, and costs its subscriber the rest of the frames, but nobody else anything."""
        bodies = [frame.to_json(exclude_none=True).encode() for frame in frames]
        until = self._clock() + MAX_PUSH_TIME.total_seconds()
        try:
            connections = self._subscribers.connections(tenant, subscriber_ids)
        except (ClientError, BotoCoreError, StorageUnavailable) as error:
            self._failed(str(error))
            return
        for subscriber_id, connection_id in connections.items():
            if self._clock() > until:
                self._failed("pushing took too long", subscriber_id)
                continue
            try:
                for body in bodies:
                    self.post(connection_id, body)
            except self._client.exceptions.GoneException:
                self._subscribers.forget(subscriber_id, connection_id)
            except (ClientError, BotoCoreError) as error:
                self._failed(str(error), subscriber_id)

    def post(self, connection_id: str, body: bytes) -> None:
        """Post one message to one connection."""
        self._client.post_to_connection(ConnectionId=connection_id, Data=body)

    def _failed(self, reason: str, subscriber_id: str = "") -> None:
        self._count("PushesFailed", 1)
        _LOG.warning("a push failed", extra={"subscriber_id": subscriber_id, "reason": reason})


def chunk_frames(session_id: str, outcomes: Sequence[PartialOutcome]) -> Iterator[ChunksFrame]:
    """Pack outcomes into frames no larger than a push may be. Results that do not fit are left out of their frame,
    with `stored_bytes` saying so: the subscriber fetches them through the API."""
    batch: list[PartialOutcome] = []
    size = 0
    for outcome in outcomes:
        slim, weight = _within_a_frame(outcome)
        if batch and size + weight > MAX_PUSH_BYTES:
            yield _frame(session_id, batch)
            batch, size = [], 0
        batch.append(slim)
        size += weight
    if batch:
        yield _frame(session_id, batch)


def _frame(session_id: str, batch: Sequence[PartialOutcome]) -> ChunksFrame:
    finished = tuple(outcome for outcome in batch if isinstance(outcome, ChunkOutcome))
    partial = tuple(outcome for outcome in batch if not isinstance(outcome, ChunkOutcome))
    return ChunksFrame(session_id=session_id, outcomes=finished, partial=partial)


def _within_a_frame(outcome: PartialOutcome) -> tuple[PartialOutcome, int]:
    # An agent's name is escaped as ASCII: at most 12 bytes for a character.
    envelope = 512 + outcome.size + (len(outcome.agent) if outcome.agent.isascii() else 12 * len(outcome.agent))
    data = len(outcome.results or b"") * 4 // 3
    if envelope + data <= MAX_PUSH_BYTES:
        return outcome, envelope + data
    return outcome.model_copy(update={"results": None, "stored_bytes": len(outcome.results or b"")}), envelope
