"""A stub grid that also publishes on a notification topic, which is moto's."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from connector.tests.stub_grid import StubGrid
from connector.tests.stub_session import StubSession
from moto import mock_aws

from htcgrid_events import ChunksFrame, SessionEndedFrame

REGION = "eu-west-1"


class TopicGrid(StubGrid):
    """Use it within `topic_grid`."""

    def publish(self, session: StubSession, frame: ChunksFrame | SessionEndedFrame) -> None:
        super().publish(session, frame)
        if session.options.publish_outcomes and not self.push.losing:
            told = {"tenant": "ada", "session_id": session.session_id, "kind": frame.kind}
            boto3.client("sns", REGION).publish(
                TopicArn=self.topic,
                Message=frame.model_dump_json(exclude_none=True),
                MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in told.items()},
            )

    def queues(self) -> list[str]:
        return boto3.client("sqs", REGION).list_queues().get("QueueUrls", [])

    def forget_clients(self) -> None:
        """Delete all queues and subscriptions, as a tidy administrator might."""
        sns, sqs = boto3.client("sns", REGION), boto3.client("sqs", REGION)
        for each in sns.list_subscriptions_by_topic(TopicArn=self.topic)["Subscriptions"]:
            sns.unsubscribe(SubscriptionArn=each["SubscriptionArn"])
        for queue in self.queues():
            sqs.delete_queue(QueueUrl=queue)

    def filters(self) -> list[object]:
        sns = boto3.client("sns", REGION)
        found = sns.list_subscriptions_by_topic(TopicArn=self.topic)["Subscriptions"]
        told = [sns.get_subscription_attributes(SubscriptionArn=each["SubscriptionArn"]) for each in found]
        return [json.loads(each["Attributes"]["FilterPolicy"]) for each in told]


@contextmanager
def topic_grid(monkeypatch: pytest.MonkeyPatch) -> Iterator[TopicGrid]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setattr("htcgrid._notify.sns.POLL_SECONDS", 1)
    monkeypatch.setattr(
        "htcgrid._notify.sns.clients",
        lambda _profile, region: (boto3.client("sns", region), boto3.client("sqs", region)),
    )
    with mock_aws():
        topic = boto3.client("sns", REGION).create_topic(Name="results")["TopicArn"]
        stub = TopicGrid()
        stub.topic = topic
        with stub:
            yield stub
