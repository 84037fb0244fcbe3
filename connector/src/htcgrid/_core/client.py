"""One user's connection to a grid, shared by all of their sessions."""

import asyncio
import weakref
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from htcgrid._core.session_ids import whole_ids
from htcgrid._core.session_link import SessionLink
from htcgrid._notify.channel import (
    Channel,
    NoChannel,
)
from htcgrid._notify.websocket import PushChannel
from htcgrid._submit.feed import Feed
from htcgrid._submit.submission import Submission
from htcgrid._transport.api import Api
from htcgrid._transport.cognito import Cognito
from htcgrid._transport.http import (
    Http,
    Patience,
    is_loopback,
    unencrypted,
)
from htcgrid._transport.tokens import Tokens
from htcgrid.errors import AuthenticationFailed, NotificationsUnavailable, ProfileInvalid
from htcgrid.options import Notifications
from htcgrid.profile import address_without_user
from htcgrid_events import (
    CancelledSessions,
    CancelSessions,
    ChunksFrame,
    SessionEndedFrame,
    SessionOptions,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htcgrid._submit.encoding import Encoder
    from htcgrid.profile import Profile

IDS_AT_A_TIME = 100
"""Sessions that one request names: the contract's limit."""

_LOCAL_HINT = "is the local grid up? start it with `htcgrid local up`"
"""For profiles that name an embedded AWS."""


class Client:
    """What `Grid` and `AsyncGrid` stand on. Belongs to one event loop, and is built there."""

    def __init__(
        self, profile: "Profile", username: str, password: str, patience: Patience, notifications: Notifications
    ) -> None:
        hint = _LOCAL_HINT if profile.aws_endpoint_url is not None else ""
        self._http = Http(patience, trust_environment=not is_loopback(profile.api_url), hint=hint)
        tokens = Tokens(Cognito(profile, self._http), username, password)
        self.api = Api(profile.api_url, tokens, self._http, profile.stores)
        self.channel = self._channel(profile, notifications)
        self.address = address_without_user(profile.api_url)
        self.username = username
        self._background: set[asyncio.Task[None]] = set()
        # Weak, so that a session that its user no longer holds frees its results too.
        self._links: weakref.WeakValueDictionary[str, SessionLink] = weakref.WeakValueDictionary()

    @classmethod
    async def connect(
        cls,
        profile: "Profile",
        username: str | None,
        password: str | None,
        time_limit: timedelta,
        notifications: Notifications = "auto",
    ) -> "Client":
        """Sign in.

        Raises `ProfileInvalid` where that would not be encrypted, `AuthenticationFailed`, `NotificationsUnavailable`
        and what else `Api` raises.
        """
        if not profile.allow_unencrypted and (plain := unencrypted(profile)):
            raise ProfileInvalid(
                f"{plain[0]} is not encrypted, so that your password could be read on the way: use an address that "
                'begins with https or wss, or set "allow_unencrypted": true in the profile'
            )
        # Only what is not given comes from the profile: an empty text is given, and must not sign in somebody else.
        if username is None:
            username = profile.username
        if password is None and profile.password is not None:
            password = profile.password.get_secret_value()
        if not username or not password:
            raise AuthenticationFailed(
                "a user name and a password are needed, neither of them empty: in the profile, or given to connect()"
            )
        client = cls(profile, username, password, Patience(limit=time_limit), notifications)
        try:
            await client.api.sign_in()
            if notifications in ("websocket", "sns"):
                await client.insist()
        except BaseException:
            await client.close()
            raise
        return client

    async def insist(self) -> None:
        """Have the channel connected. Raises `NotificationsUnavailable` when it cannot be."""
        self.channel.start()
        await self.channel.tried()
        if not self.channel.connected:
            what = f"notifications={self.channel.name!r} cannot be had"
            raise NotificationsUnavailable(f"{what}: {self.channel.fault}")

    async def open(
        self, session_id: str | None, options: SessionOptions, encoder: "Encoder", *, preload: bool = False
    ) -> tuple[SessionLink, Feed]:
        """A session to be created, known here only, and the way into it. It has a new id where none is given. `preload`
        has agents fetch the shared data of its first tasks at once."""
        self.channel.start()
        await self.channel.tried()
        session_id = session_id or self.channel.new_session_id()
        options, subscriber, subscribed = self.channel.creation(options)
        link = self.link(session_id)
        link.follower.created(subscribed=subscribed, epoch=self.channel.epoch)
        submission = Submission(self.api, session_id, options, subscriber, preload=preload)
        link.feed = feed = Feed(self.api, link.collector, submission, encoder)
        return link, feed

    async def attach(self, session_id: str) -> "SessionLink":
        """A session by its id or the beginning of it. Raises `SessionNotFound`, and as `whole_ids` does."""
        (session_id,) = await whole_ids(self.api, [session_id])
        status = await self.api.status(session_id)
        link = self.link(session_id)
        link.collector.see(status)
        return link

    async def cancel_sessions(self, session_ids: "Sequence[str] | None") -> CancelledSessions:
        """Ask for the cancellation of these sessions, or of all that are open. Raises as `whole_ids` does."""
        if session_ids is None:
            parts = [await self.api.cancel_sessions(CancelSessions())]
            while parts[-1].stopping:  # a request stops some of very many
                parts.append(await self.api.cancel_sessions(CancelSessions()))
            return _together(parts)
        session_ids = list(dict.fromkeys(await whole_ids(self.api, session_ids)))
        parts = [
            await self.api.cancel_sessions(
                CancelSessions(session_ids=tuple(session_ids[first : first + IDS_AT_A_TIME]))
            )
            for first in range(0, len(session_ids), IDS_AT_A_TIME)
        ]
        return _together(parts)

    def link(self, session_id: str) -> "SessionLink":
        """What this client holds of a session; one however often it is asked for."""
        link = self._links.get(session_id)
        if link is None:
            link = self._links[session_id] = SessionLink(session_id, self.api, self.channel, self.keep)
        return link

    def keep(self, task: "asyncio.Task[Any]") -> None:
        """Keep what runs in the background from being forgotten, until it is done or the grid is closed, which cancels
        it."""
        if self._http.closed:
            task.cancel()
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """Drop the connections. Sessions go on without, and whoever waits for one is told `GridClosed`."""
        self._http.closed = True
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.channel.close()
        await self._http.close()

    def _channel(self, profile: "Profile", notifications: Notifications) -> Channel:
        if notifications == "poll":
            return NoChannel()
        if notifications == "sns":
            from htcgrid._notify.sns import SnsChannel

            return SnsChannel(profile, self.api, self._dispatch, self._wake_all)
        return PushChannel(profile.push_url, self.api, self._dispatch, self._wake_all)

    def _dispatch(self, frame: ChunksFrame | SessionEndedFrame) -> None:
        link = self._links.get(frame.session_id)
        if link is None:
            return  # of a session whose user has let go of it
        if isinstance(frame, ChunksFrame):
            link.collector.take((*frame.partial, *frame.outcomes))
        else:
            link.collector.end(frame)

    def _wake_all(self) -> None:
        for link in list(self._links.values()):
            link.collector.wake()


def _together(parts: "Sequence[CancelledSessions]") -> CancelledSessions:
    return CancelledSessions(
        stopping=tuple(found for part in parts for found in part.stopping),
        ended=tuple(found for part in parts for found in part.ended),
        unknown=tuple(found for part in parts for found in part.unknown),
    )
