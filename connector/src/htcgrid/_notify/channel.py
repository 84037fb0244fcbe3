"""How finished tasks are pushed to this client."""

from typing import TYPE_CHECKING, Protocol

from htcgrid_events import new_id

if TYPE_CHECKING:
    from htcgrid_events import SessionOptions, SessionStatus


class Channel(Protocol):
    """Receives frames. Whoever uses it must catch up by asking the grid whenever `epoch` has changed."""

    name: str
    """`websocket`, `sns` or `poll`."""
    connected: bool
    """Whether frames come now."""
    closed: bool
    """Whether `close` was called."""
    fault: str
    """Why frames do not come, if they do not."""
    epoch: int
    """How often frames began to come. Some may be lost between one time and the next."""

    def start(self) -> None:
        """Connect, and stay connected, in the background."""

    async def tried(self) -> None:
        """Wait until the first attempt to connect has gone one way or the other."""

    async def close(self) -> None:
        """Receive no more."""

    def new_session_id(self) -> str:
        """An id for a new session of which this channel can tell."""

    def reaches(self, session_id: str) -> bool:
        """Whether this channel can tell of a session."""

    def creation(self, options: "SessionOptions") -> "tuple[SessionOptions, str | None, bool]":
        """Of a session to be created: its options, who subscribes with the creation, and whether that is enough."""

    async def subscribe(self, session_id: str) -> "SessionStatus":
        """Subscribe to a session. Returns its status after that. Raises what `Api` raises."""


class NoChannel:
    """No way: the grid is asked."""

    name = "poll"
    connected = False
    closed = False
    fault = ""
    epoch = 0

    def start(self) -> None:
        """See `Channel.start`."""

    async def tried(self) -> None:
        """See `Channel.tried`."""

    async def close(self) -> None:
        """See `Channel.close`."""
        self.closed = True

    def new_session_id(self) -> str:
        """See `Channel.new_session_id`."""
        return new_id()

    def reaches(self, session_id: str) -> bool:
        """See `Channel.reaches`."""
        return False

    def creation(self, options: "SessionOptions") -> "tuple[SessionOptions, str | None, bool]":
        """See `Channel.creation`."""
        return options, None, False

    async def subscribe(self, session_id: str) -> "SessionStatus":
        """See `Channel.subscribe`; never asked for."""
        raise NotImplementedError(session_id)
