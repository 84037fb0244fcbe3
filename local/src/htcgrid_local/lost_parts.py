"""Whether the embedded AWS still has what was deployed: somebody with its key may have deleted some of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from botocore.exceptions import ClientError

_ASKED: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "AWS::ApiGatewayV2::Api": ("API", "apigatewayv2", "get_api", "ApiId"),
    "AWS::Cognito::UserPool": ("user pool", "cognito-idp", "describe_user_pool", "UserPoolId"),
    "AWS::DynamoDB::Table": ("table", "dynamodb", "describe_table", "TableName"),
    "AWS::S3::Bucket": ("bucket", "s3", "head_bucket", "Bucket"),
    "AWS::SQS::Queue": ("queue", "sqs", "get_queue_attributes", "QueueUrl"),
}
"""What a resource is called, and who is asked for it: service, operation, and the parameter that names it."""


def lost_parts(stack: str, client: Callable[[str], Any]) -> list[str]:
    """What of `stack` is gone; `client` makes a boto3 client of a service.

    Raises:
        BotoCoreError: the embedded AWS does not answer.
    """
    try:
        pages = list(client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack))
    except ClientError:
        return [f"the stack {stack}"]
    lost = []
    client_of = cache(client)
    for resource in (resource for page in pages for resource in page["StackResourceSummaries"]):
        if resource["ResourceType"] not in _ASKED:
            continue
        what, service, operation, parameter = _ASKED[resource["ResourceType"]]
        try:
            getattr(client_of(service), operation)(**{parameter: resource["PhysicalResourceId"]})
        except ClientError:
            lost.append(f"the {what} {resource['LogicalResourceId']}")
    return lost
