"""Nodes and pods: the entries of `eks_worker_groups` and of `agent_configuration`."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from htcgrid_deploy.config.fields import AsTuple, MiB, MilliCpu, Nodes, Part, PartitionName, PoolName, StorageService

InstanceType = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$")]
"""An EC2 instance type, such as `m5.xlarge`."""


class WorkerGroup(Part):
    """A pool of nodes, an entry of `eks_worker_groups`."""

    name: PoolName
    """Name of the pool. Nodes carry it as the label `htcgrid/pool`."""
    override_instance_types: Annotated[tuple[InstanceType, ...], AsTuple, Field(min_length=1)]
    """Instance types that the pool may have."""
    spot_instance_pools: Annotated[int, Field(ge=0, le=20)] = 0
    """Ignored: nodes are chosen by spot capacity and price."""
    asg_min_size: Nodes = 0
    """Fewest nodes."""
    asg_max_size: Nodes = 3
    """Most nodes."""
    asg_desired_capacity: Nodes = 0
    """Nodes to begin with."""
    on_demand_base_capacity: Nodes = 0
    """Nodes that are on-demand before the first spot instance is started."""

    @model_validator(mode="after")
    def _sizes_are_in_order(self) -> Self:
        if not self.asg_min_size <= self.asg_desired_capacity <= max(self.asg_max_size, self.asg_min_size):
            raise ValueError("asg_desired_capacity must be from asg_min_size to asg_max_size")
        if self.asg_max_size < self.asg_min_size:
            raise ValueError("asg_max_size must not be below asg_min_size")
        return self


class Function(Part):
    """What the tasks of a partition run, and the pod that it gets: `agent_configuration.lambda`."""

    runtime: Literal["python", "python-lambda", "nodejs", "java", "provided"] = "provided"
    """The Lambda runtime."""
    handler: Annotated[str, StringConstraints(pattern=r"^\S*$")] = ""
    """The handler, as on Lambda; in its place `lambda_handler_file_name` and `lambda_handler_function_name`."""
    lambda_handler_file_name: str = ""
    """The module of the handler."""
    lambda_handler_function_name: str = ""
    """The function in it."""
    function_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "htcgrid-function"
    """The function's name as its handler sees it."""
    location: Annotated[str, StringConstraints(pattern=r"^(s3://[a-z0-9.-]{3,63}/\S+)?$")] = ""
    """Where the function's zip lies, as `s3://bucket/key`; empty: in the image."""
    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Digest of the zip. Empty: it is read once, when the grid is brought up."""
    image: str = ""
    """Image of the worker. Empty: the one for the runtime."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables of the function's environment."""
    minCPU: MilliCpu = 1_000  # noqa: N815 -- the first HTC-Grid's key
    """Processor time that is kept free for the pod's worker, in thousandths of a processor."""
    maxCPU: MilliCpu | None = None  # noqa: N815 -- the first HTC-Grid's key
    """Most processor time of the worker. Default: no limit."""
    minMemory: MiB = 2_048  # noqa: N815 -- the first HTC-Grid's key
    """Memory that is kept free for the worker, in MiB."""
    maxMemory: MiB | None = None  # noqa: N815 -- the first HTC-Grid's key
    """Most memory of the worker, in MiB. Default: as `minMemory`."""

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> Self:
        for least, most in (("minCPU", "maxCPU"), ("minMemory", "maxMemory")):
            limit = getattr(self, most)
            if limit is not None and limit < getattr(self, least):
                raise ValueError(f"{most} must not be below {least}")
        if self.handler and (self.lambda_handler_file_name or self.lambda_handler_function_name):
            raise ValueError("give either handler, or lambda_handler_file_name and lambda_handler_function_name")
        if bool(self.lambda_handler_file_name) != bool(self.lambda_handler_function_name):
            raise ValueError("lambda_handler_file_name and lambda_handler_function_name go together")
        return self

    @property
    def handler_name(self) -> str:
        """The handler in Lambda's form; empty where the image says it."""
        if self.lambda_handler_file_name:
            return f"{self.lambda_handler_file_name.removesuffix('.py')}.{self.lambda_handler_function_name}"
        return self.handler


class AgentContainer(Part):
    """The container of the agent: `agent_configuration.agent`."""

    image: str = ""
    """Its image. Empty: the one of this release."""
    minCPU: MilliCpu = 250  # noqa: N815 -- the first HTC-Grid's key
    """Processor time that is kept free for it, in thousandths of a processor."""
    minMemory: MiB = 512  # noqa: N815 -- the first HTC-Grid's key
    """Its memory, in MiB."""


class AgentConfiguration(Part):
    """What the pods of agents hold."""

    function: Annotated[Function, Field(alias="lambda")] = Function()
    """What the tasks run."""
    agent: AgentContainer = AgentContainer()
    """The container of the agent."""


class Partition(Part):
    """What a partition has otherwise than the grid's keys say, which describe the partition `default`."""

    function: Annotated[Function | None, Field(alias="lambda")] = None
    """What its tasks run."""
    grid_storage_service: StorageService | None = None
    """Where its large payloads lie."""
    min_htc_agents: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Fewest agents."""
    max_htc_agents: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Most agents."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Tasks that one of its agents runs at a time."""
    longest_task_seconds: Annotated[int, Field(ge=1, le=43_200)] = 300
    """The longest that one of its tasks may take."""
    worker_group: PoolName | None = None
    """The pool of nodes that its agents run on. Default: any."""
    retry_in: dict[Literal["memory", "timeout"], PartitionName] = Field(default_factory=dict)
    """Where a task that ran out of memory or of time is tried again."""
