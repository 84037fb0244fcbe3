"""The operations of DynamoDB, SQS and S3 that an agent needs, with the names and shapes of boto3."""

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from htcgrid_agent.aws.client import (
    JsonClient,
    ObjectClient,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient


class NoSuchKeyError(ClientError):
    """Raised when nothing lies under a key of a bucket."""


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


class _S3:
    class exceptions:  # noqa: N801 - so boto3 calls it
        NoSuchKey = NoSuchKeyError

    def __init__(self, client: ObjectClient) -> None:
        self._client = client

    def put_object(self, Bucket: str, Key: str, Body: bytes, ContentType: str) -> None:  # noqa: N803
        self._client.put(Key, Body, ContentType)

    def get_object(self, **request: str) -> dict[str, Any]:
        headers = {"range": request["Range"]}
        if "IfMatch" in request:
            headers["if-match"] = request["IfMatch"]
        try:
            answer = self._client.get(request["Key"], headers)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                raise NoSuchKeyError(error.response, "GetObject") from error
            raise
        return {
            "Body": BytesIO(answer.data),
            "ContentRange": answer.headers["content-range"],
            "ETag": answer.headers["etag"],
        }

    def create_multipart_upload(self, **request: str) -> dict[str, str]:
        return {"UploadId": self._client.begin_upload(request["Key"], request["ContentType"])}

    def upload_part(self, **request: Any) -> dict[str, str]:
        upload, number = request["UploadId"], request["PartNumber"]
        return {"ETag": self._client.put_part(request["Key"], upload, number, request["Body"])}

    def complete_multipart_upload(self, **request: Any) -> None:
        parts = [(part["PartNumber"], part["ETag"]) for part in request["MultipartUpload"]["Parts"]]
        self._client.end_upload(request["Key"], request["UploadId"], parts)

    def abort_multipart_upload(self, **request: str) -> None:
        self._client.drop_upload(request["Key"], request["UploadId"])


def dynamodb(client: JsonClient) -> "DynamoDBClient":
    """A client with `batch_execute_statement` and `get_item` alone."""
    return cast("DynamoDBClient", _DynamoDb(client))


def sqs(client: JsonClient) -> "SQSClient":
    """A client with `receive_message` and the batch operations that send, delete and hide messages."""
    return cast("SQSClient", _Sqs(client))


def _encoded(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"B": base64.b64encode(value["B"]).decode()} if "B" in value else value


def _decoded(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"B": base64.b64decode(value["B"])} if "B" in value else value


def s3(client: ObjectClient) -> "S3Client":
    """A client with `put_object`, `get_object` and the operations of multipart uploads, for one bucket."""
    return cast("S3Client", _S3(client))
