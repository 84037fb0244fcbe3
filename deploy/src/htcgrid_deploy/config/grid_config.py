"""`grid_config.json`: the one file that describes a grid."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from htcgrid_deploy.config.fields import (
    Agents,
    AsTuple,
    Cidr,
    GridName,
    Part,
    PartitionName,
    Region,
    StorageService,
)
from htcgrid_deploy.config.network import Budget, InputRole, Network, User
from htcgrid_deploy.config.workers import AgentConfiguration, Function, Partition, WorkerGroup

DEFAULT_PARTITION = "default"


def _not_reserved(key: str) -> str:
    if key.lower().startswith("aws:"):
        raise ValueError("must not begin with aws:, which AWS keeps for itself")
    return key


Capacity = Annotated[int, Field(ge=1, le=40_000)]
"""Units a second of a table ("Quotas in Amazon DynamoDB", per table)."""


TagKey = Annotated[str, StringConstraints(pattern=r"^[\w .:/=+@-]{1,128}$"), AfterValidator(_not_reserved)]
"""The key of a tag ("Tag naming limits and requirements", AWS)."""


class GridConfig(Part):
    """A grid. The keys without a section describe the partition `default`."""

    region: Region = "eu-west-1"
    """AWS Region."""
    project_name: GridName = "main"
    """Tells the grids of an account apart: part of the names of its stacks."""
    grid_storage_service: StorageService = "S3"
    """Where large payloads lie: `S3`, `REDIS`, `S3+REDIS`, `EFS` or `FSX`."""
    min_htc_agents: Agents = 0
    """Fewest agents of the partition `default`. 0 costs nothing while there is no work."""
    max_htc_agents: Annotated[Agents, Field(ge=1)] = 100
    """Most agents of it."""
    dynamodb_default_read_capacity: Capacity | None = None
    """Provisioned reads a second of a table, which scale by themselves. Default: tables are on demand."""
    dynamodb_default_write_capacity: Capacity | None = None
    """Provisioned writes a second of a table. Goes with the one above."""
    graceful_termination_delay: Annotated[int, Field(ge=1, le=43_200)] = 300
    """How long a pod that must go may finish its tasks, in seconds."""
    eks_worker_groups: Annotated[tuple[WorkerGroup, ...], AsTuple] = ()
    """Pools of nodes. Default: one, of the instance families c, m and r."""
    agent_configuration: AgentConfiguration = AgentConfiguration()
    """The pods of the partition `default`."""
    enable_private_subnet: bool = True
    """Whether nodes have private addresses alone."""
    vpc_cidr_block_public: Annotated[tuple[Cidr, ...], AsTuple] = ()
    """Address ranges of the public subnets, where only a NAT gateway stands."""
    vpc_cidr_block_private: Annotated[tuple[Cidr, ...], AsTuple] = ("10.0.0.0/18", "10.0.64.0/18", "10.0.128.0/18")
    """Address ranges of the private subnets, one for each of three zones. Every pod takes one address."""
    input_role: Annotated[tuple[InputRole, ...], AsTuple] = ()
    """Who administers the cluster."""
    partitions: dict[PartitionName, Partition] = Field(default_factory=dict)
    """Further partitions, by name: what each has otherwise than `default`."""
    network: Network = Network()
    """A network that is there, and what nodes reach."""
    users: Annotated[tuple[User, ...], AsTuple] = ()
    """Who submits sessions."""
    budgets: Annotated[tuple[Budget, ...], AsTuple] = ()
    """What may be spent."""
    tags: dict[TagKey, Annotated[str, Field(max_length=256)]] = Field(default_factory=dict)
    """Tags of all that is made."""

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.max_htc_agents < self.min_htc_agents:
            raise ValueError("max_htc_agents must not be below min_htc_agents")
        if (self.dynamodb_default_read_capacity is None) != (self.dynamodb_default_write_capacity is None):
            raise ValueError("dynamodb_default_read_capacity and dynamodb_default_write_capacity go together")
        if not self.enable_private_subnet:
            raise ValueError("enable_private_subnet must be true: nodes have no public addresses here")
        if len(self.vpc_cidr_block_private) != 3:
            raise ValueError("vpc_cidr_block_private must have three ranges, one for each zone")
        if len({group.name for group in self.eks_worker_groups}) < len(self.eks_worker_groups):
            raise ValueError("eks_worker_groups: two pools have the same name")
        return self

    @model_validator(mode="after")
    def _partitions_hold_together(self) -> Self:
        if DEFAULT_PARTITION in self.partitions:
            raise ValueError(f"partitions.{DEFAULT_PARTITION}: describe it by the keys at the top of the file")
        pools = {group.name for group in self.eks_worker_groups}
        for name, partition in self.partitions.items():
            if partition.worker_group is not None and partition.worker_group not in pools:
                raise ValueError(f"partitions.{name}.worker_group: eks_worker_groups has no '{partition.worker_group}'")
            for target in partition.retry_in.values():
                if target not in self.partitions and target != DEFAULT_PARTITION:
                    raise ValueError(f"partitions.{name}.retry_in: there is no partition '{target}'")
                if target == name:
                    raise ValueError(f"partitions.{name}.retry_in: must name another partition")
            fewest, most = self.agents_of(name)
            if most < fewest:
                raise ValueError(f"partitions.{name}: max_htc_agents must not be below min_htc_agents")
        return self

    @property
    def all_partitions(self) -> Mapping[str, Partition]:
        """Every partition, `default` first."""
        return {DEFAULT_PARTITION: Partition(), **self.partitions}

    def agents_of(self, partition: str) -> tuple[int, int]:
        """Fewest and most agents of a partition."""
        own = self.all_partitions[partition]
        fewest = self.min_htc_agents if partition == DEFAULT_PARTITION else own.min_htc_agents or 0
        return fewest, self.max_htc_agents if own.max_htc_agents is None else own.max_htc_agents

    def function_of(self, partition: str) -> Function:
        """What the tasks of a partition run."""
        return self.all_partitions[partition].function or self.agent_configuration.function

    def storage_of(self, partition: str) -> str:
        """Where the large payloads of a partition lie."""
        return self.all_partitions[partition].grid_storage_service or self.grid_storage_service
