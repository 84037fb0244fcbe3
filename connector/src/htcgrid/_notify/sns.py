"""Frames by SNS and a queue of our own: for clients inside AWS, where no WebSocket may be open."""

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from htcgrid._aio.backoff import RetryDelay
from htcgrid._transport.http import is_loopback
from htcgrid.errors import GridError, NotificationsUnavailable
from htcgrid_events import PUSH_FRAME, ChunksFrame, GridInfo, PongFrame, SessionEndedFrame, new_id

if TYPE_CHECKING:
    from mypy_boto3_sns.client import SNSClient
    from mypy_boto3_sqs.client import SQSClient

    from htcgrid._transport.api import Api
    from htcgrid.profile import Profile
    from htcgrid_events import SessionOptions, SessionStatus

_log = logging.getLogger(__name__)

POLL_SECONDS = 20
"""SQS' longest long poll, so that an idle client makes 3 requests a minute."""
KEPT_SECONDS = 3600
"""How long a message waits for a client that does not come: the queue of one that died holds little."""
_PREFIX_DIGITS = 12
_BATCH = 10


class SnsChannel:
    """A subscription to the grid's notification topic, filtered by tenant and by ids of sessions.

    The ids of the sessions that this client creates begin alike, so that one filter, which is in force from the
    beginning, fits them all: a changed filter takes SNS up to 15 minutes. Of other sessions the grid is asked.
    """

    name = "sns"

    def __init__(
        self,
        profile: "Profile",
        api: "Api",
        on_frame: Callable[[ChunksFrame | SessionEndedFrame], None],
        on_change: Callable[[], None],
    ) -> None:
        self._profile = profile
        self._api = api
        self._on_frame = on_frame
        self._on_change = on_change
        self._prefix = new_id()[:_PREFIX_DIGITS]
        self._backoff = RetryDelay(timedelta(seconds=1), timedelta(seconds=60))
        self._stopping = threading.Event()
        self._tried = asyncio.Event()
        self._started: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue_url = ""
        self._subscription = ""
        self._sns: SNSClient | None = None
        self._sqs: SQSClient | None = None
        self.fault = ""
        """Why there is no subscription, if there is none."""
        self.epoch = 0
        self.connected = False
        self.closed = False

    def start(self) -> None:
        """See `Channel.start`."""
        if self._started is None:
            self._loop = asyncio.get_running_loop()
            self._started = asyncio.create_task(self._subscribe(), name="htcgrid sns")

    async def tried(self) -> None:
        """See `Channel.tried`."""
        await self._tried.wait()

    async def close(self) -> None:
        """See `Channel.close`. The subscription and the queue are deleted."""
        self.closed = True
        self.connected = False
        self._stopping.set()
        self._tried.set()
        self._on_change()
        if self._started is not None:
            await asyncio.gather(self._started, return_exceptions=True)
            await asyncio.to_thread(self._clean_up)

    def new_session_id(self) -> str:
        """See `Channel.new_session_id`."""
        return self._prefix + new_id()[_PREFIX_DIGITS:]

    def reaches(self, session_id: str) -> bool:
        """See `Channel.reaches`."""
        return session_id.startswith(self._prefix)

    def creation(self, options: "SessionOptions") -> "tuple[SessionOptions, str | None, bool]":
        """See `Channel.creation`."""
        return options.model_copy(update={"publish_outcomes": True}), None, True

    async def subscribe(self, session_id: str) -> "SessionStatus":
        """See `Channel.subscribe`. The filter covers the session already."""
        return await self._api.status(session_id)

    async def _subscribe(self) -> None:
        try:
            info = await self._api.grid_info()
            await asyncio.to_thread(self._set_up, info)
        except Exception as error:  # noqa: BLE001 - botocore's errors have no common root but this; told by `connect`
            self.fault = str(error) if isinstance(error, GridError) else f"{type(error).__name__}: {error}"
            self._tried.set()
            return
        self._set_connected(connected=True)
        _log.info("finished tasks are pushed by SNS and the queue %s", self._queue_url)
        self._tried.set()
        # A daemon, since a long poll cannot be interrupted and must not keep the program from ending.
        threading.Thread(target=self._receive, name="htcgrid sns", daemon=True).start()

    # --- in threads ---

    def _set_up(self, info: GridInfo) -> None:
        self._sns, self._sqs = clients(self._profile, info.notification_topic.split(":")[3])
        self._queue_url = self._sqs.create_queue(
            QueueName=f"htcgrid-results-{self._prefix}", Attributes={"MessageRetentionPeriod": str(KEPT_SECONDS)}
        )["QueueUrl"]
        found = self._sqs.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=["QueueArn"])
        arn = found["Attributes"]["QueueArn"]
        policy = json.dumps(_policy(arn, info.notification_topic))
        self._sqs.set_queue_attributes(QueueUrl=self._queue_url, Attributes={"Policy": policy})
        self._subscription = self._sns.subscribe(
            TopicArn=info.notification_topic,
            Protocol="sqs",
            Endpoint=arn,
            ReturnSubscriptionArn=True,
            Attributes={
                "RawMessageDelivery": "true",
                "FilterPolicy": json.dumps({"tenant": [info.tenant], "session_id": [{"prefix": self._prefix}]}),
            },
        )["SubscriptionArn"]

    def _receive(self) -> None:
        assert self._sqs is not None  # noqa: S101 - set up before
        failures = 0
        while not self._stopping.is_set():
            try:
                answer = self._sqs.receive_message(
                    QueueUrl=self._queue_url, MaxNumberOfMessages=_BATCH, WaitTimeSeconds=POLL_SECONDS
                )
                messages = answer.get("Messages", [])
                self._post(self._take, [message.get("Body", "") for message in messages])
                if messages:
                    entries = [
                        {"Id": str(number), "ReceiptHandle": message.get("ReceiptHandle", "")}
                        for number, message in enumerate(messages)
                    ]
                    self._sqs.delete_message_batch(QueueUrl=self._queue_url, Entries=entries)  # type: ignore[arg-type]
                failures = 0
            except Exception as error:  # noqa: BLE001 - whatever it is, the grid is asked meanwhile
                if self._stopping.is_set():
                    return
                failures += 1
                _log.warning("the queue of results cannot be read, so the grid is asked for them: %s", error)
                self._post(self._set_connected, False)
                self._stopping.wait(self._backoff.seconds(failures))

    def _clean_up(self) -> None:
        try:
            if self._subscription and self._sns is not None:
                self._sns.unsubscribe(SubscriptionArn=self._subscription)
            if self._queue_url and self._sqs is not None:
                self._sqs.delete_queue(QueueUrl=self._queue_url)
        except Exception as error:  # noqa: BLE001 - the grid is closed all the same
            _log.warning("the queue %s or its subscription is left behind: %s", self._queue_url, error)

    def _post(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._loop is not None and not self._stopping.is_set():
            try:
                self._loop.call_soon_threadsafe(call, *arguments)
            except RuntimeError:  # the loop was closed
                self._stopping.set()

    # --- on the event loop ---

    def _set_connected(self, connected: bool) -> None:
        if connected and not self.connected:
            self.epoch += 1
        self.connected = connected
        self._on_change()

    def _take(self, bodies: list[str]) -> None:
        self._set_connected(True)
        for body in bodies:
            try:
                frame = PUSH_FRAME.validate_json(body)
            except ValidationError:
                _log.warning("the topic holds a message of %d characters that is no frame", len(body))
                continue
            if not isinstance(frame, PongFrame):
                self._on_frame(frame)


def clients(profile: "Profile", region: str) -> "tuple[SNSClient, SQSClient]":
    """The caller's own AWS clients. Raises `NotificationsUnavailable` when boto3 is missing."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise NotificationsUnavailable("it needs boto3: pip install 'htcgrid[aws]'") from None
    session = boto3.session.Session(region_name=region)
    endpoint = profile.aws_endpoint_url
    # No proxy stands between this machine and itself, whatever the environment says; botocore would use one.
    config = Config(proxies={} if endpoint and is_loopback(endpoint) else None)
    # botocore knows variables of its own only, and asks them where `verify` is none.
    verify = None if os.environ.get("AWS_CA_BUNDLE") else os.environ.get("SSL_CERT_FILE") or None
    return (
        session.client("sns", endpoint_url=endpoint, config=config, verify=verify),
        session.client("sqs", endpoint_url=endpoint, config=config, verify=verify),
    )


def _policy(queue_arn: str, topic_arn: str) -> dict[str, object]:
    """Only the grid's topic may fill the queue."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}
