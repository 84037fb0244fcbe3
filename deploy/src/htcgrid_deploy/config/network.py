"""The network of a grid: a new one, or one that is there."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from htcgrid_deploy.config.fields import AsTuple, Part

SubnetId = Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-f]{8,17}$")]


class Network(Part):
    """What `vpc_cidr_block_private` does not say."""

    vpc_id: Annotated[str, StringConstraints(pattern=r"^vpc-[0-9a-f]{8,17}$")] | None = None
    """A VPC that is there. Default: one is made."""
    subnet_ids: Annotated[tuple[SubnetId, ...], AsTuple] = ()
    """Private subnets of that VPC, in two or three zones."""
    egress: Literal["endpoints", "nat"] = "endpoints"
    """What nodes reach: AWS alone through VPC endpoints, or the internet too through a NAT gateway."""

    @model_validator(mode="after")
    def _vpc_and_subnets_go_together(self) -> Self:
        if bool(self.vpc_id) != bool(self.subnet_ids):
            raise ValueError("vpc_id and subnet_ids go together")
        return self


class InputRole(Part):
    """Who administers the cluster: an entry of `input_role`."""

    rolearn: Annotated[str, StringConstraints(pattern=r"^arn:[a-z-]+:iam::\d{12}:(role|user)/.+$")]
    """The IAM role or user."""
    username: str = ""
    """Its name in Kubernetes; access entries of EKS make one themselves."""
    groups: Annotated[tuple[str, ...], AsTuple] = ("system:masters",)
    """Its groups in Kubernetes. `system:masters` becomes the access policy of a cluster administrator."""

    @model_validator(mode="after")
    def _is_an_administrator(self) -> Self:
        if self.groups != ("system:masters",):
            raise ValueError('groups must be ["system:masters"]: give other rights by access entries of the cluster')
        return self


class User(Part):
    """Somebody who submits sessions."""

    name: Annotated[str, StringConstraints(pattern=r"^[\w.@+-]{1,128}$")]
    """The user's name in the user pool."""
    email: Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    """Where an invitation is sent. Default: none is."""


class Budget(Part):
    """What may be spent in a month before somebody is told."""

    name: Annotated[str, StringConstraints(pattern=r"^[\w .-]{1,100}$")]
    """The budget's name."""
    monthly_usd: Annotated[float, Field(gt=0, le=1e9)]
    """Dollars a month."""
    notify: Annotated[tuple[Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$")], ...], AsTuple]
    """E-mail addresses that are told at 80 and at 100 percent."""
