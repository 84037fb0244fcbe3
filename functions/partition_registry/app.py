"""Registers partitions: the provider of the resource `Custom::Partition` of their stacks."""

from typing import Annotated, Any

from aws_lambda_powertools.utilities.data_classes import CloudFormationCustomResourceEvent
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from htcgrid_controlplane.errors import ControlPlaneError
from htcgrid_controlplane.observability import control_plane, logger, observed
from htcgrid_controlplane.outbound.stack_answer import answer
from htcgrid_controlplane.rules.partition import Partition, PartitionName
from htcgrid_events import Priority

grid = control_plane()


class Properties(BaseModel):
    """What a stack says of its partition."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[PartitionName, Field(alias="Name")]
    queue_urls: Annotated[dict[Priority, str], Field(alias="QueueUrls", min_length=len(Priority))]


@observed
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Do what the stack asks for, and answer it: a stack that gets no answer waits for an hour."""
    asked = CloudFormationCustomResourceEvent(event)
    name = str(asked.resource_properties.get("Name", ""))
    reason = ""
    try:
        _do(asked)
    except ControlPlaneError as error:
        reason = str(error)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        reason = f"The properties of the partition are not right: {faults}."
    except Exception:  # noqa: BLE001 - whatever is wrong, the stack is answered
        logger.exception("a partition could not be registered", stack=asked.stack_id, partition=name)
        reason = (
            f"The partition could not be registered: see the log of the function, request {context.aws_request_id}."
        )
    if reason:
        logger.warning("refused", stack=asked.stack_id, partition=name, reason=reason)
    # With another name it is another partition: CloudFormation has the one of before deleted.
    answer(asked, f"partition/{name}", reason)


def _do(asked: CloudFormationCustomResourceEvent) -> None:
    if asked.request_type == "Delete":
        grid.stack_partitions.remove(asked.physical_resource_id.removeprefix("partition/"), asked.stack_id)
        return
    properties = Properties.model_validate(asked.resource_properties)
    grid.stack_partitions.register(Partition(properties.name, asked.stack_id, properties.queue_urls))
