"""Answers a stack that asked for a custom resource ("Custom resource response objects", AWS CloudFormation)."""

import json
from typing import Final

import urllib3
from aws_lambda_powertools.utilities.data_classes import CloudFormationCustomResourceEvent

_TIMEOUT: Final = urllib3.Timeout(connect=5, read=10)
_RETRIES: Final = urllib3.Retry(3, backoff_factor=0.5, status_forcelist=(500, 502, 503, 504), allowed_methods=("PUT",))
_LONGEST_REASON: Final = 3_000
"""An answer may have 4,096 bytes."""


def answer(asked: CloudFormationCustomResourceEvent, resource: str, reason: str) -> None:
    """Tell the stack that its resource is as it asked for, or the reason why it is not.

    Args:
        asked: what the stack asked for.
        resource: the id of the resource. With another one than before, the stack has the one before deleted.
        reason: why it was refused; empty if it was done.
    """
    body = {
        "Status": "FAILED" if reason else "SUCCESS",
        "Reason": reason[:_LONGEST_REASON],
        "PhysicalResourceId": resource,
        "StackId": asked.stack_id,
        "RequestId": asked.request_id,
        "LogicalResourceId": asked.logical_resource_id,
    }
    with urllib3.PoolManager(timeout=_TIMEOUT, retries=_RETRIES) as pool:
        # The URL is signed for a request without a content type.
        pool.request("PUT", asked.response_url, body=json.dumps(body).encode(), headers={"Content-Type": ""})
