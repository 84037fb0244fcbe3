"""The few operations of DynamoDB and SQS that an agent needs, named and shaped as boto3 names and shapes them."""

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import botocore.session
from botocore.config import Config

from htcgrid_agent.wire import JsonClient
from htcgrid_dataplane import PayloadStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_sqs.client import SQSClient


class _DynamoDb:
    def __init__(self, client: JsonClient) -> None:
        self._client = client

    def batch_execute_statement(self, Statements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:  # noqa: N803
        request = [
            {**statement, "Parameters": [_encoded(value) for value in statement["Parameters"]]}
            for statement in Statements
        ]
        answer = self._client.call("BatchExecuteStatement", {"Statements": request})
        for response in answer["Responses"]:
            for holder in (response, response.get("Error", {})):
                if "Item" in holder:
                    holder["Item"] = {name: _decoded(value) for name, value in holder["Item"].items()}
        return answer

    def get_item(self, **request: Any) -> dict[str, Any]:
        request["Key"] = {name: _encoded(value) for name, value in request["Key"].items()}
        answer = self._client.call("GetItem", request)
        if "Item" in answer:
            answer["Item"] = {name: _decoded(value) for name, value in answer["Item"].items()}
        return answer


class _Sqs:
    def __init__(self, client: JsonClient) -> None:
        self._client = client

    def receive_message(self, **request: Any) -> dict[str, Any]:
        return self._client.call("ReceiveMessage", request)

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        return self._client.call("SendMessageBatch", request)

    def delete_message_batch(self, **request: Any) -> dict[str, Any]:
        return self._client.call("DeleteMessageBatch", request)

    def change_message_visibility_batch(self, **request: Any) -> dict[str, Any]:
        return self._client.call("ChangeMessageVisibilityBatch", request)


def dynamodb(client: JsonClient) -> "DynamoDBClient":
    """A client with `batch_execute_statement` and `get_item`, and nothing else."""
    return cast("DynamoDBClient", _DynamoDb(client))


def sqs(client: JsonClient) -> "SQSClient":
    """A client that receives, and that sends, deletes and hides in batches; nothing else."""
    return cast("SQSClient", _Sqs(client))


def _encoded(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"B": base64.b64encode(value["B"]).decode()} if "B" in value else value


def _decoded(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"B": base64.b64decode(value["B"])} if "B" in value else value


def s3_store(session: botocore.session.Session, bucket: str) -> PayloadStore:
    """The data plane in S3."""
    # Imported when it is needed: an agent whose payloads are small saves 20 MB.
    import boto3.session

    from htcgrid_dataplane.s3 import S3Store

    config = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})
    return S3Store(boto3.session.Session(botocore_session=session).client("s3", config=config), bucket)
