"""Asks Step Functions whether an execution of a workflow is still running."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.client import SFNClient


class Executions:
    """The executions of the lifecycle workflow."""

    def __init__(self, client: "SFNClient") -> None:
        self._client = client

    def running(self, arn: str) -> bool:
        """Whether an execution goes on; false for one that has ended, in whatever way, or is forgotten."""
        try:
            return self._client.describe_execution(executionArn=arn)["status"] == "RUNNING"
        except self._client.exceptions.ExecutionDoesNotExist:
            return False
