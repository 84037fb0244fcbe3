"""Further partitions of a local grid, each a stack of its own from `partition.yaml`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import ClientError, WaiterError

from htcgrid_local.deploying import STACK
from htcgrid_local.errors import DeployError
from htcgrid_local.project import Project

_PARAMETERS: Final = {
    "KeyArn": "KeyArn",
    "UndeliverableQueueArn": "UndeliverableQueueArn",
    "RegistryFunctionArn": "PartitionRegistryFunctionArn",
}
"""Parameters of a partition's stack, with the outputs of the grid's that they take."""
_FAILED: Final = "_FAILED"
_WAIT: Final = {"Delay": 1, "MaxAttempts": 180}


def add_partition(cloudformation: Any, project: Project, outputs: Mapping[str, str], name: str) -> dict[str, str]:
    """Deploy a partition, and return the settings with which agents serve it.

    Raises:
        DeployError: its stack could not be created; says why.
    """
    stack = f"{STACK}-{name}"
    parameters = {"Name": name, **{key: outputs[output] for key, output in _PARAMETERS.items()}}
    try:
        cloudformation.create_stack(
            StackName=stack,
            TemplateBody=project.root.joinpath("partition.yaml").read_text(encoding="utf-8"),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )
        cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig=_WAIT)
    except (ClientError, WaiterError) as error:
        reason = _first_failure(cloudformation, stack) or str(error)
        raise DeployError(f"The partition {name} could not be created: {reason}") from error
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    return queue_settings({output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]})


def remove_partition(cloudformation: Any, name: str) -> None:
    """Delete a partition's stack.

    Raises:
        DeployError: it could not be deleted, most likely since sessions are open in the partition; says why.
    """
    stack = f"{STACK}-{name}"
    cloudformation.delete_stack(StackName=stack)
    try:
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig=_WAIT)
    except WaiterError as error:
        reason = _first_failure(cloudformation, stack) or str(error)
        raise DeployError(f"The partition {name} could not be removed: {reason}") from error


def queue_settings(outputs: Mapping[str, str]) -> dict[str, str]:
    """The setting of agents that serve the partition of these outputs."""
    queues = {level: outputs[f"TaskQueue{level.title()}Url"] for level in ("high", "normal", "low")}
    return {"HTCGRID_TASK_QUEUE_URLS": json.dumps(queues)}


def _first_failure(cloudformation: Any, stack: str) -> str:
    """Why the last change of a stack failed; empty if that is not known."""
    try:
        events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    except ClientError:
        return ""
    reasons = [event.get("ResourceStatusReason", "") for event in events if event["ResourceStatus"].endswith(_FAILED)]
    # Newest first: what follows from the first failure, such as that of the stack, is of no use.
    return next((reason for reason in reversed(reasons[: len(events)]) if reason), "")
