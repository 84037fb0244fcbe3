"""Publishes on the notification topic what subscribers are pushed, for clients inside AWS."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from htcgrid_events import ChunksFrame, SessionEndedFrame

if TYPE_CHECKING:
    from mypy_boto3_sns.client import SNSClient
    from mypy_boto3_sns.type_defs import MessageAttributeValueTypeDef


class Notifications:
    """The grid's notification topic."""

    def __init__(self, client: "SNSClient", topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    def publish(self, tenant: str, frames: Iterable[ChunksFrame | SessionEndedFrame]) -> None:
        """Publish frames, with the attributes by which subscriptions filter: tenant, session_id, kind, and of a verdict
        its state. Frames are at most `MAX_PUSH_BYTES` long, below the 256 KB of a message ("Amazon SNS quotas")."""
        for frame in frames:
            attributes = {"tenant": tenant, "session_id": frame.session_id, "kind": frame.kind}
            if isinstance(frame, SessionEndedFrame):
                attributes["state"] = frame.state
            self._client.publish(
                TopicArn=self._topic_arn,
                Message=frame.model_dump_json(exclude_none=True),
                MessageAttributes={name: _text(value) for name, value in attributes.items()},
            )


def _text(value: str) -> "MessageAttributeValueTypeDef":
    return {"DataType": "String", "StringValue": value}
