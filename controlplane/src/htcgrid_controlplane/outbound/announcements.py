"""Announces outcomes and verdicts to everybody who follows a session: on the bus, by push, and on the topic."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.outbound.push import PushGateway, chunk_frames
from htcgrid_controlplane.outbound.topic import NotificationTopic
from htcgrid_controlplane.rules.session import Session
from htcgrid_dataplane import PayloadCorrupt, decode_lines
from htcgrid_events import (
    BusEvent,
    ChunkCompleted,
    ChunkOutcome,
    FailedTask,
    OutcomeCode,
    PartialOutcome,
    TaskError,
    TasksFailed,
    task_id,
)

_MAX_MESSAGE = 500
"""Characters of an error's type and message on the bus; the whole is in the results."""
_MAX_LISTED_BYTES = 20_000
"""Bytes of failed tasks listed in one event. The event's number of failures counts those left out."""


@dataclass(frozen=True)
class Announcements:
    """The bus must take what it is given, or the step is repeated; pushes and notifications may be lost."""

    bus: EventBus
    push: PushGateway
    topic: NotificationTopic

    def outcomes(self, session: Session, outcomes: Sequence[ChunkOutcome]) -> None:
        """Announce finished chunks.

        Raises:
            StorageUnavailable: the bus kept refusing an event; the caller is to repeat the whole step.
        """
        self.bus.put(list(_events(session, outcomes)))
        self._tell_followers(session, outcomes)

    def partial_outcomes(self, session: Session, outcomes: Sequence[PartialOutcome]) -> None:
        """Tell whoever follows the session of tasks that are final in chunks of which others are run again."""
        if outcomes:
            self._tell_followers(session, outcomes)

    def verdict(self, session: Session) -> None:
        """Announce the verdict of a session that has one. Raises as `outcomes` does."""
        self.bus.put([session.ended_event()])
        frame = session.ended_frame()
        self.topic.publish(session.tenant, [frame])
        self.push.push(session.tenant, session.subscribers, [frame])

    def _tell_followers(self, session: Session, outcomes: Sequence[PartialOutcome]) -> None:
        frames = list(chunk_frames(session.session_id, outcomes))
        self.push.push(session.tenant, session.subscribers, frames)
        if session.options.publish_outcomes:
            self.topic.publish(session.tenant, frames)


def _events(session: Session, outcomes: Iterable[ChunkOutcome]) -> Iterator[BusEvent]:
    for outcome in outcomes:
        if failed := outcome.count(OutcomeCode.FAILED):
            yield TasksFailed(
                session_id=session.session_id,
                tenant=session.tenant,
                chunk=outcome.chunk,
                failed=failed,
                tasks=tuple(_failed_tasks(session.session_id, outcome)),
            )
        if session.options.publish_completions:
            yield ChunkCompleted(
                session_id=session.session_id,
                tenant=session.tenant,
                chunk=outcome.chunk,
                first_task=outcome.first_task,
                outcomes=outcome.outcomes,
                stages=outcome.stages,
                function_digests=outcome.function_digests,
            )


def _failed_tasks(session_id: str, outcome: ChunkOutcome) -> Iterator[FailedTask]:
    """The failed tasks of a chunk whose errors lie in the event and can be read, as many as there is room for."""
    if outcome.results is None:
        return
    try:
        lines = decode_lines(outcome.results, outcome.size)
    except PayloadCorrupt:
        return
    room = _MAX_LISTED_BYTES
    for offset, (code, line) in enumerate(zip(outcome.outcomes, lines, strict=True)):
        if code == OutcomeCode.FAILED.value:
            try:
                error = TaskError.model_validate_json(line)
            except ValidationError:
                continue
            task = _failed_task(task_id(session_id, outcome.first_task + offset), error)
            room -= len(task.to_json())
            if room < 0:
                return
            yield task


def _failed_task(name: str, error: TaskError) -> FailedTask:
    return FailedTask(
        task_id=name,
        kind=error.kind,
        type=error.type[:_MAX_MESSAGE],
        message=error.message[:_MAX_MESSAGE],
        attempts=error.attempts,
        function_digest=error.function_digest,
    )
