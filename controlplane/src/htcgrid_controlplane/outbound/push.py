"""Pushes frames to subscribers over their WebSocket connections."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from htcgrid_controlplane.storage.subscribers import SubscriberStore
from htcgrid_events import MAX_PUSH_BYTES, ChunkOutcome, ChunksFrame, Contract

if TYPE_CHECKING:
    from mypy_boto3_apigatewaymanagementapi.client import ApiGatewayManagementApiClient


class PushGateway:
    """Delivers frames at least once to whoever is connected; who is not catches up through the API later."""

    def __init__(self, client: "ApiGatewayManagementApiClient", subscribers: SubscriberStore) -> None:
        self._client = client
        self._subscribers = subscribers

    def push(self, subscriber_ids: Iterable[str], frames: Iterable[Contract]) -> None:
        """Push frames to each of these subscribers that has a connection."""
        bodies = [frame.model_dump_json(exclude_none=True).encode() for frame in frames]
        for subscriber_id, connection_id in self._subscribers.connections(subscriber_ids).items():
            try:
                for body in bodies:
                    self.post(connection_id, body)
            except self._client.exceptions.GoneException:
                self._subscribers.forget(subscriber_id, connection_id)

    def post(self, connection_id: str, body: bytes) -> None:
        """Post one message to one connection."""
        self._client.post_to_connection(ConnectionId=connection_id, Data=body)


def chunk_frames(session_id: str, outcomes: Sequence[ChunkOutcome]) -> Iterator[ChunksFrame]:
    """Pack outcomes into frames no larger than a push may be. Results that do not fit are left out of their frame,
    with `stored_bytes` saying so: the subscriber fetches them through the API."""
    batch: list[ChunkOutcome] = []
    size = 0
    for outcome in outcomes:
        slim, weight = _within_a_frame(outcome)
        if batch and size + weight > MAX_PUSH_BYTES:
            yield ChunksFrame(session_id=session_id, outcomes=tuple(batch))
            batch, size = [], 0
        batch.append(slim)
        size += weight
    if batch:
        yield ChunksFrame(session_id=session_id, outcomes=tuple(batch))


def _within_a_frame(outcome: ChunkOutcome) -> tuple[ChunkOutcome, int]:
    envelope = 512 + outcome.size + len(outcome.agent.encode())
    data = len(outcome.results or b"") * 4 // 3
    if envelope + data <= MAX_PUSH_BYTES:
        return outcome, envelope + data
    return outcome.model_copy(update={"results": None, "stored_bytes": len(outcome.results or b"")}), envelope
