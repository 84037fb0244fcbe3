"""The data planes one after the other in one stack, deployed by the real SAM CLI as far as the embedded AWS goes."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from htcgrid_local.building import sam_environment
from htcgrid_local.emulator import Emulator
from htcgrid_local.home import Home
from htcgrid_local.project import find_project
from tests.template.stack import ROOT, TEMPLATE, load
from tests.template.test_cluster_deployed import outputs, resource, without, write

pytestmark = pytest.mark.grid

ABSENT = {"AWS::EC2::SecurityGroupEgress", "AWS::EC2::SecurityGroupIngress"}
"""What the embedded AWS does not have of Redis and EFS. It has neither serverless caches nor FSx, and no function of
a stack is in a VPC or mounts anything."""
STACK = "risk"


@dataclass(frozen=True)
class Deployment:
    """A stack of the template, and the network that it is given."""

    template: Path
    environment: dict[str, str]
    aws: Emulator
    network: dict[str, str]

    def deploy(self, stack: str, **parameters: str) -> subprocess.CompletedProcess[str]:
        """Run `sam deploy` with these parameters; those that are left out stay what they were."""
        # There are no archives of buses.
        given = [f"{name}={value}" for name, value in ({"EventArchiveDays": "0"} | parameters).items()]
        return subprocess.run(
            [find_project().sam, "deploy", "--template-file", self.template, "--stack-name", stack, "--resolve-s3",
             "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND", "--region", "us-east-1",
             "--parameter-overrides", *given],
            cwd=self.template.parent, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def move(self, plane: str, former: str) -> None:
        """Give the grid this data plane, and that before it."""
        done = self.deploy(
            STACK, DataPlane=plane, FormerDataPlane=former, RedisShards="3", RetainData="false", **self.network
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def variables(self, function: str) -> dict[str, str]:
        """The environment of a function."""
        name = resource(self.aws, STACK, function)
        found = self.aws.client("lambda").get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        return dict(found)

    def policies(self, role: str) -> set[str]:
        """The names of a role's policies."""
        name = resource(self.aws, STACK, role)
        return set(self.aws.client("iam").list_role_policies(RoleName=name)["PolicyNames"])

    def caches(self) -> list[dict[str, Any]]:
        """All replication groups."""
        return list(self.aws.client("elasticache").describe_replication_groups()["ReplicationGroups"])

    def file_systems(self) -> list[dict[str, Any]]:
        """All file systems."""
        return list(self.aws.client("efs").describe_file_systems()["FileSystems"])


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, embedded_aws: Emulator, embedded_environment: dict[str, str]
) -> Deployment:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "layer").mkdir()
    (folder / "layer/empty").touch()
    template = without(json.loads(json.dumps(TEMPLATE)), ABSENT)
    for each in template["Resources"].values():
        properties = each.get("Properties", {})
        if each["Type"] == "AWS::Serverless::Function":
            properties["CodeUri"] = str(ROOT / properties["CodeUri"])
        if each["Type"] == "AWS::Serverless::StateMachine":
            properties["DefinitionUri"] = str(ROOT / properties["DefinitionUri"])
        if each["Type"] == "AWS::Serverless::LayerVersion":
            properties["ContentUri"] = str(folder / "layer")
    write(folder / "stack/template.yaml", template)
    # Functions have no layer here, so none runs that would register the partition.
    write(folder / "stack/partition.yaml", without(load("partition.yaml"), {"Custom::Partition"}))
    environment = sam_environment(Home(tmp_path_factory.mktemp("home"))) | embedded_environment
    return Deployment(folder / "stack/template.yaml", environment, embedded_aws, network_in(embedded_aws))


def network_in(aws: Emulator) -> dict[str, str]:
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"]
        for number, zone in enumerate("abc")
    ]
    agents = ec2.create_security_group(GroupName="agents", Description="Agents.", VpcId=vpc)["GroupId"]
    return {
        "VpcId": vpc,
        "SubnetIds": ",".join(each["SubnetId"] for each in subnets),
        "AgentSecurityGroupId": agents,
    }


def test_a_grid_moves_from_s3_to_redis_to_a_file_system_and_back(deployment: Deployment) -> None:
    deployment.move("s3", "none")
    on_s3 = deployment.variables("SessionsApiFunction")
    assert (deployment.caches(), deployment.file_systems()) == ([], [])
    assert deployment.policies("SessionsApiRole") == {"own"}

    deployment.move("redis", "s3")
    [redis] = deployment.caches()
    assert len(redis["NodeGroups"]) == 3
    assert (redis["MultiAZ"], redis["AutomaticFailover"]) == ("enabled", "enabled")
    assert (redis["TransitEncryptionEnabled"], redis["AtRestEncryptionEnabled"]) == (True, True)
    assert deployment.policies("SessionsApiRole") == {"own", "vpc", "redis"}
    assert deployment.policies("AgentRole") == {"agent", "redis"}
    variables = deployment.variables("SessionsApiFunction")
    said = outputs(deployment.aws, STACK)
    assert (variables["HTCGRID_STORE"], said["Store"]) == ("redis", "redis")
    assert json.loads(variables["HTCGRID_STORE_SETTINGS"]) == json.loads(said["StoreSettings"])
    assert json.loads(said["StoreSettings"])["cache"] == redis["ReplicationGroupId"]
    assert json.loads(said["StoreSettings"])["url"].startswith("rediss://")

    deployment.move("filesystem", "redis")
    assert [each["ReplicationGroupId"] for each in deployment.caches()] == [redis["ReplicationGroupId"]]
    [system] = deployment.file_systems()
    assert system["Encrypted"] is True
    efs = deployment.aws.client("efs")
    targets = efs.describe_mount_targets(FileSystemId=system["FileSystemId"])["MountTargets"]
    assert {each["SubnetId"] for each in targets} == set(deployment.network["SubnetIds"].split(","))
    said = outputs(deployment.aws, STACK)
    [point] = efs.describe_access_points(FileSystemId=system["FileSystemId"])["AccessPoints"]
    assert said["EfsVolume"] == f"{system['FileSystemId']}::{point['AccessPointId']}"
    assert point["PosixUser"] == {"Uid": 10001, "Gid": 10000}
    policy = json.loads(efs.describe_file_system_policy(FileSystemId=system["FileSystemId"])["Policy"])
    assert {each["Effect"] for each in policy["Statement"]} == {"Deny"}
    for name in ("SessionsApi", "ExpiredLeases", "DeadLetters", "Undeliverable"):
        assert deployment.policies(f"{name}Role") == {"own", "vpc", "redis", "efs"}
        variables = deployment.variables(f"{name}Function")
        assert json.loads(variables["HTCGRID_STORE_SETTINGS"]) == json.loads(said["StoreSettings"])
        former = json.loads(variables["HTCGRID_FORMER_STORES"])
        assert former["redis"]["cache"] == redis["ReplicationGroupId"]
        assert json.loads(said["FormerStores"]) == former

    deployment.move("s3", "none")
    assert (deployment.caches(), deployment.file_systems()) == ([], [])
    assert deployment.variables("SessionsApiFunction") == on_s3
    assert deployment.policies("SessionsApiRole") == {"own"}


def test_a_data_plane_without_a_network_is_refused_before_anything_is_made(deployment: Deployment) -> None:
    refused = deployment.deploy("without-network", DataPlane="redis")
    assert refused.returncode != 0
    assert "VpcId must name the agents' network, unless DataPlane and FormerDataPlane are s3." in refused.stderr
