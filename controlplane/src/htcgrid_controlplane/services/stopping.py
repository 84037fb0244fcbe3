"""Stops sessions: they take no more chunks, and their workflows cancel the open tasks."""

from dataclasses import dataclass

from htcgrid_controlplane.outbound.bus import EventBus
from htcgrid_controlplane.outbound.waker import Waker
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_events import SessionStopping, StopReason


@dataclass(frozen=True)
class Stops:
    """The one way in which a session is stopped, whoever wants it."""

    sessions: SessionStore
    bus: EventBus
    waker: Waker

    def stop(self, session_id: str, reason: EndReason) -> Session:
        """Stop a session; the first reason stays. Repeating it, or stopping one that has ended, changes nothing."""
        session = self.sessions.stop(session_id, reason)
        if session.stop_reason is not None and not session.state.ended:
            stopping = SessionStopping(
                session_id=session_id, tenant=session.tenant, reason=StopReason(session.stop_reason)
            )
            self.bus.put([stopping])
        self.waker.wake(session)
        return session
