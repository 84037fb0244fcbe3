"""The grid whose agents are pods: the embedded AWS, reached from pods through the bridge."""

import json
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from htcgrid import Grid
from htcgrid_local import LocalGrid
from htcgrid_local.keys import REGION, Key
from tests.kubernetes.places import HOST, ROOT

FUNCTION = ROOT / "examples/portfolio/function"
_USERS = "htcgrid-tests"


class KubernetesGrid:
    """The template on the embedded AWS, without agents; also a context manager."""

    def __init__(self, home: Path) -> None:
        self.local = LocalGrid(home, function=FUNCTION, agents=0, bridge=HOST)

    def __enter__(self) -> Self:
        """Start it."""
        self.local.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.local.stop()

    @property
    def endpoint_url(self) -> str:
        """Where pods, and what runs beside them, reach AWS."""
        assert self.local.bridge_url is not None
        return self.local.bridge_url

    @property
    def queues(self) -> dict[str, str]:
        """The URLs of the task queues, by priority."""
        return {level: self.local.outputs[f"TaskQueue{level.title()}Url"] for level in ("high", "normal", "low")}

    def connect(self) -> Grid:
        """The first user's connection."""
        return Grid.connect(self.local.profile)

    def client(self, service: str) -> Any:
        """A client of AWS with the root key."""
        return self.local.client(service)

    def agent_environment(self) -> dict[str, str]:
        """As whom agents ask AWS: a session of their role, in place of what Pod Identity gives."""
        role = self.local.outputs["AgentRoleArn"]
        given = self.client("sts").assume_role(RoleArn=role, RoleSessionName=_USERS, DurationSeconds=3600)
        credentials = given["Credentials"]
        key = Key(credentials["AccessKeyId"], credentials["SecretAccessKey"])
        return self._environment(key) | {"AWS_SESSION_TOKEN": credentials["SessionToken"]}

    @cached_property
    def keda_environment(self) -> dict[str, str]:
        """As whom KEDA asks AWS: one who may look at queues and metrics, and nothing else."""
        iam = self.client("iam")
        user = f"{_USERS}-keda"
        actions = ["sqs:GetQueueAttributes", "cloudwatch:GetMetricData"]
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        iam.create_user(UserName=user)
        iam.put_user_policy(
            UserName=user,
            PolicyName="look",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        )
        key = iam.create_access_key(UserName=user)["AccessKey"]
        return self._environment(Key(key["AccessKeyId"], key["SecretAccessKey"]))

    def _environment(self, key: Key) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": key.access_key_id,
            "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
