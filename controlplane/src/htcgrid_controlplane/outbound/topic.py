"""Publishes on the notification topic what subscribers are pushed, for clients inside AWS."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from htcgrid_controlplane.outbound.metrics import CountMetric, count_nothing
from htcgrid_events import ChunksFrame, SessionEndedFrame

if TYPE_CHECKING:
    from mypy_boto3_sns.client import SNSClient
    from mypy_boto3_sns.type_defs import MessageAttributeValueTypeDef

_LOG = logging.getLogger(__name__)


class NotificationTopic:
    """The grid's notification topic."""

    def __init__(self, client: "SNSClient", topic_arn: str, count: CountMetric = count_nothing) -> None:
        self._client = client
        self._topic_arn = topic_arn
        self._count = count

    def publish(self, tenant: str, frames: Iterable[ChunksFrame | SessionEndedFrame]) -> None:
        """Publish frames, with the attributes by which subscriptions filter: tenant, session_id, kind, and of a verdict
        its state. Frames are at most `MAX_PUSH_BYTES` long, below the 256 KB of a message ("Amazon SNS quotas"). One
        that fails is logged and counted: clients ask the API for what they miss."""
        for frame in frames:
            attributes = {"tenant": tenant, "session_id": frame.session_id, "kind": frame.kind}
            if isinstance(frame, SessionEndedFrame):
                attributes["state"] = frame.state
            try:
                self._client.publish(
                    TopicArn=self._topic_arn,
                    Message=frame.to_json(exclude_none=True),
                    MessageAttributes={name: _text(value) for name, value in attributes.items()},
                )
            except (ClientError, BotoCoreError) as error:
                self._count("PushesFailed", 1)
                _LOG.warning("a notification failed", extra={"session_id": frame.session_id, "reason": str(error)})


def _text(value: str) -> "MessageAttributeValueTypeDef":
    return {"DataType": "String", "StringValue": value}
