"""The few operations of DynamoDB and SQS that an agent needs, named and shaped as boto3 names and shapes them."""

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from htcgrid_agent.wire import JsonClient

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
    """A client with `batch_execute_statement`, and nothing else."""
    return cast("DynamoDBClient", _DynamoDb(client))


def sqs(client: JsonClient) -> "SQSClient":
    """A client that receives, and that sends, deletes and hides in batches; nothing else."""
    return cast("SQSClient", _Sqs(client))


def _encoded(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"B": base64.b64encode(value["B"]).decode()} if "B" in value else value


def _decoded(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"B": base64.b64decode(value["B"])} if "B" in value else value
