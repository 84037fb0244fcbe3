"""Publishes verdicts on the notification topic, for clients inside AWS."""

from typing import TYPE_CHECKING

from htcgrid_events import SessionEnded

if TYPE_CHECKING:
    from mypy_boto3_sns.client import SNSClient


class Notifications:
    """The grid's notification topic."""

    def __init__(self, client: "SNSClient", topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    def publish(self, ended: SessionEnded) -> None:
        """Publish a verdict, with the attributes by which subscriptions filter: tenant, session_id and state."""
        self._client.publish(
            TopicArn=self._topic_arn,
            Message=ended.model_dump_json(),
            MessageAttributes={
                "tenant": {"DataType": "String", "StringValue": ended.tenant},
                "session_id": {"DataType": "String", "StringValue": ended.session_id},
                "state": {"DataType": "String", "StringValue": ended.state},
            },
        )
