"""The asynchronous heart of a grid: one user's connection, shared by all of his sessions."""

import weakref
from datetime import timedelta
from typing import TYPE_CHECKING

from htcgrid._api import Api
from htcgrid._auth import Tokens
from htcgrid._cognito import Cognito
from htcgrid._collector import Collector
from htcgrid._dead_letters import carry_out
from htcgrid._follower import Follower
from htcgrid._http import Http, Patience, is_loopback
from htcgrid._push import PushChannel
from htcgrid._stream import Fetcher, ResultStream
from htcgrid._submission import Submission
from htcgrid.errors import AuthenticationFailed, ResultsUnavailable, SessionNotFound
from htcgrid_dataplane import DataPlaneError, decode_lines
from htcgrid_events import (
    CancelledSessions,
    CancelSessions,
    ChunksFrame,
    SessionEndedFrame,
    SessionOptions,
    SessionStatus,
    new_id,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from htcgrid._encoding import EncodedChunk
    from htcgrid.profile import Profile
    from htcgrid_events import ChunkOutcome, PurgeTasks, PushTicket, RedriveTasks

IDS_AT_A_TIME = 100
"""Sessions that one request names: the contract's limit."""

_LOCAL_HINT = "is the local grid up? start it with `htcgrid local up`"
"""For profiles that name an embedded AWS."""


class Client:
    """Everything below the facades. Lives on one event loop, and is built there."""

    def __init__(self, profile: "Profile", username: str, password: str, patience: Patience) -> None:
        hint = _LOCAL_HINT if profile.aws_endpoint_url is not None else ""
        self._http = Http(patience, trust_environment=not is_loopback(profile.api_url), hint=hint)
        tokens = Tokens(Cognito(profile, self._http), username, password)
        self.api = Api(profile.api_url, tokens, self._http)
        self.subscriber_id = new_id()
        self.push = PushChannel(profile.push_url, self._ticket, self._dispatch, self._wake_all)
        # Weak, so that sessions whose user has let go of them take their results along.
        self._links: weakref.WeakValueDictionary[str, SessionLink] = weakref.WeakValueDictionary()

    @classmethod
    async def connect(
        cls, profile: "Profile", username: str | None, password: str | None, time_limit: timedelta
    ) -> "Client":
        """Sign in. Raises `AuthenticationFailed` and what else `Api` raises."""
        # Only what is not given comes from the profile: an empty text is given, and must not sign in somebody else.
        if username is None:
            username = profile.username
        if password is None and profile.password is not None:
            password = profile.password.get_secret_value()
        if not username or not password:
            raise AuthenticationFailed(
                "a user name and a password are needed, neither of them empty: in the profile, or given to connect()"
            )
        client = cls(profile, username, password, Patience(limit=time_limit))
        try:
            await client.api.sign_in()
        except BaseException:
            await client.close()
            raise
        return client

    async def prepare_submission(self, session_id: str, options: SessionOptions) -> "tuple[SessionLink, Submission]":
        """A new session, known here only, and what sends its chunks."""
        self.push.start()
        await self.push.tried()
        link = self.link(session_id)
        subscriber = self.subscriber_id if self.push.known else None
        link.follower.created(subscribed=subscriber is not None, epoch=self.push.epoch)
        return link, Submission(self.api, session_id, options, subscriber)

    async def attach(self, session_id: str) -> "SessionLink":
        """A session that exists. Raises `SessionNotFound`."""
        if not is_id(session_id):
            raise SessionNotFound(session_id)
        status = await self.api.status(session_id)
        link = self.link(session_id)
        link.collector.see(status)
        return link

    async def cancel_sessions(self, session_ids: "Sequence[str] | None") -> CancelledSessions:
        """Ask for the cancellation of these sessions, or of all that are open."""
        if session_ids is None:
            return await self.api.cancel_sessions(CancelSessions())
        parts = [
            await self.api.cancel_sessions(
                CancelSessions(session_ids=tuple(session_ids[first : first + IDS_AT_A_TIME]))
            )
            for first in range(0, len(session_ids), IDS_AT_A_TIME)
        ]
        return CancelledSessions(
            stopping=tuple(found for part in parts for found in part.stopping),
            ended=tuple(found for part in parts for found in part.ended),
            unknown=tuple(found for part in parts for found in part.unknown),
        )

    def link(self, session_id: str) -> "SessionLink":
        """What this client holds of a session; one however often it is asked for."""
        link = self._links.get(session_id)
        if link is None:
            link = self._links[session_id] = SessionLink(self, session_id)
        return link

    async def close(self) -> None:
        """Drop the connections. Sessions go on without."""
        await self.push.close()
        await self._http.close()

    async def _ticket(self) -> "PushTicket":
        return await self.api.push_ticket(self.subscriber_id)

    def _dispatch(self, frame: ChunksFrame | SessionEndedFrame) -> None:
        link = self._links.get(frame.session_id)
        if link is None:
            return  # of a session whose user has let go of it
        if isinstance(frame, ChunksFrame):
            link.collector.take(frame.outcomes)
        else:
            link.collector.end(frame)

    def _wake_all(self) -> None:
        for link in list(self._links.values()):
            link.collector.wake()


def is_id(given: object) -> bool:
    """Whether this can be the id of a session: a text of 32 hexadecimal digits."""
    return isinstance(given, str) and len(given) == len(new_id()) and set(given) <= set("0123456789abcdef")


class SessionLink:
    """One session as this client sees it."""

    def __init__(self, client: Client, session_id: str) -> None:
        self._client = client
        self.session_id = session_id
        self._begin()

    def _begin(self) -> None:
        """Know nothing yet."""
        client = self._client
        self.collector = Collector(self.session_id)
        self.follower = Follower(client.api, client.push, self.collector, client.subscriber_id)
        self._fetcher = Fetcher(client.api, self.session_id)

    async def finish(self, submission: Submission, last: "Sequence[EncodedChunk]") -> None:
        """Send the last chunks. From now on it is known how much the session holds."""
        await submission.finish(last)
        chunks, tasks = submission.totals
        self.collector.close(chunks=chunks, tasks=tasks)

    def stream(self) -> ResultStream:
        """A new reader of the results."""
        return ResultStream(self._client.api, self.collector, self.follower, self._fetcher)

    async def until(self, met: "Callable[[], bool]") -> None:
        """Wait until the condition on the collector is met."""
        await self.follower.until(met)

    async def outcomes(self) -> "list[ChunkOutcome]":
        """The chunks that have finished by now, in the order of their tasks."""
        if not self.collector.complete:
            await self.follower.refresh()
        return sorted(self.collector.arrived, key=lambda outcome: outcome.first_task)

    async def event(self, index: int) -> bytes:
        """The JSON text of what a task was given. Raises `ResultsUnavailable` when it is no longer kept."""
        told = await self._client.api.task_input(self.session_id, index)
        data = await self._client.api.get_payload(told.url) if told.url is not None else told.inputs
        try:
            return decode_lines(data or b"", told.lines)[told.line]
        except DataPlaneError as error:
            raise ResultsUnavailable(
                f"the event of task {index} of session {self.session_id} is damaged: {error}"
            ) from None

    async def status(self) -> SessionStatus:
        """How the session stands, asked now."""
        status = await self._client.api.status(self.session_id)
        self.collector.see(status)
        return status

    async def redrive(self, requests: "Iterable[RedriveTasks]") -> int:
        """Run dead letters again. What was known of the session is of the past from then on."""
        api = self._client.api
        try:
            return await carry_out(requests, lambda request: api.redrive(self.session_id, request))
        finally:
            self._begin()

    async def purge(self, requests: "Iterable[PurgeTasks]") -> int:
        """Forget dead letters."""
        return await carry_out(requests, lambda request: self._client.api.purge(self.session_id, request))
