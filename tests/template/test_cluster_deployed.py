"""The stack of a cluster, deployed by the real SAM CLI on the embedded AWS as far as that has its parts."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from htcgrid_local.building import sam_environment
from htcgrid_local.emulator import Emulator
from htcgrid_local.home import Home
from htcgrid_local.project import find_project
from tests.template.stack import ROOT, load, many, references

pytestmark = pytest.mark.grid

ABSENT = {
    "AWS::EC2::FlowLog",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EKS::AccessEntry",
    "AWS::EKS::Addon",
    "AWS::EKS::PodIdentityAssociation",
}
"""What the embedded AWS does not have."""
PARAMETERS = {
    "AdminPrincipalArn": "arn:aws:iam::000000000000:role/Admin",
    "AgentRoleArn": "arn:aws:iam::000000000000:role/Agent",
}


class Deployment:
    """Deploys the stack under several names."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def deploy(self, stack: str, absent: set[str], **parameters: str) -> subprocess.CompletedProcess[str]:
        """Run `sam deploy` on the templates without what is of these types."""
        write(self.folder / "network.yaml", without(load("network.yaml"), absent))
        cluster = without(load("eks/cluster.yaml"), absent)
        cluster["Resources"]["NodeDrainer"]["Properties"]["CodeUri"] = str(ROOT / "functions/node_drainer")
        write(self.folder / "eks/cluster.yaml", cluster)
        given = [f"{name}={value}" for name, value in (PARAMETERS | parameters).items()]
        return subprocess.run(
            [find_project().sam, "deploy", "--template-file", self.folder / "eks/cluster.yaml", "--stack-name", stack,
             "--resolve-s3", "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND", "--region", "us-east-1",
             "--parameter-overrides", *given],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip


def write(path: Path, template: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(template), encoding="utf-8")


def without(template: dict[str, Any], absent: set[str]) -> dict[str, Any]:
    """A template that has nothing of these types, and nothing that waits for it."""
    resources = template["Resources"]
    dropped = {name for name, each in resources.items() if each["Type"] in absent}
    for name in dropped:
        del resources[name]
    for each in resources.values():
        if "DependsOn" in each:
            each["DependsOn"] = [name for name in many(each["DependsOn"]) if name not in dropped]
    assert not references(list(resources.values())) & dropped
    return template


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, embedded_environment: dict[str, str]) -> Deployment:
    home = Home(tmp_path_factory.mktemp("home"))
    return Deployment(tmp_path_factory.mktemp("stacks"), sam_environment(home) | embedded_environment)


def refused_types(message: str) -> set[str]:
    [types] = re.findall(r"Unrecognized resource types: \[(.+?)\]", message)
    return set(types.split(", "))


def outputs(aws: Emulator, stack: str) -> dict[str, str]:
    [found] = aws.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]}


def resource(aws: Emulator, stack: str, name: str) -> str:
    """What CloudFormation calls a resource of the template."""
    found = aws.client("cloudformation").describe_stack_resource(StackName=stack, LogicalResourceId=name)
    return str(found["StackResourceDetail"]["PhysicalResourceId"]).rsplit("/", 1)[-1]


def test_what_is_left_out_here_is_what_the_embedded_aws_lacks(deployment: Deployment, embedded_aws: Emulator) -> None:
    refused = deployment.deploy("whole", set(), NodeScaling="cluster-autoscaler")
    assert refused.returncode != 0
    with pytest.raises(ClientError) as network:
        embedded_aws.client("cloudformation").create_stack(
            StackName="network",
            TemplateBody=json.dumps(load("network.yaml")),
            Parameters=[{"ParameterKey": "Egress", "ParameterValue": "nat"}],
            Capabilities=["CAPABILITY_IAM"],
        )
    assert refused_types(refused.stderr) | refused_types(str(network.value)) == ABSENT | {"AWS::EC2::NatGateway"}


def test_a_cluster_with_karpenter_comes_up(deployment: Deployment, embedded_aws: Emulator) -> None:
    done = deployment.deploy("with-karpenter", ABSENT)
    assert done.returncode == 0, done.stdout + done.stderr

    cluster = embedded_aws.client("eks").describe_cluster(name="with-karpenter")["cluster"]
    assert cluster["version"] == load("eks/cluster.yaml")["Parameters"]["KubernetesVersion"]["Default"]
    network = cluster["resourcesVpcConfig"]
    assert (network["endpointPrivateAccess"], network["endpointPublicAccess"]) == (True, False)
    said = outputs(embedded_aws, "with-karpenter")
    subnets = said["SubnetIds"].split(",")
    assert network["subnetIds"] == subnets
    ec2 = embedded_aws.client("ec2")
    found = ec2.describe_subnets(SubnetIds=subnets)["Subnets"]
    assert len({each["AvailabilityZone"] for each in found}) == 3
    endpoints = ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [said["VpcId"]]}])["VpcEndpoints"]
    assert {each["ServiceName"].removeprefix("com.amazonaws.us-east-1.") for each in endpoints} >= {"s3", "ssm"}

    # The two charts take these as they are.
    karpenter = json.loads(said["KarpenterValues"])
    assert karpenter["settings"]["clusterName"] == "with-karpenter"
    assert karpenter["settings"]["isolatedVPC"] is True
    assert karpenter["settings"]["interruptionQueue"] == "with-karpenter-interruptions"
    nodes = json.loads(said["NodesValues"])["cluster"]
    assert (nodes["name"], nodes["subnetIds"]) == ("with-karpenter", subnets)
    assert nodes["securityGroupIds"] == [said["SecurityGroupId"]]

    # Nobody but AWS itself puts a notice on the bus, so only the way from there is looked at.
    events = embedded_aws.client("events")
    rule = resource(embedded_aws, "with-karpenter", "InterruptionRule")
    [target] = events.list_targets_by_rule(Rule=rule)["Targets"]
    assert target["Arn"].endswith(":with-karpenter-interruptions")


def test_a_cluster_with_node_groups_and_the_node_drainer_comes_up(
    deployment: Deployment, embedded_aws: Emulator
) -> None:
    done = deployment.deploy("with-groups", ABSENT, NodeScaling="cluster-autoscaler")
    assert done.returncode == 0, done.stdout + done.stderr

    drainer = resource(embedded_aws, "with-groups", "NodeDrainer")
    function = embedded_aws.client("lambda").get_function_configuration(FunctionName=drainer)
    cluster = embedded_aws.client("eks").describe_cluster(name="with-groups")["cluster"]
    assert function["Environment"]["Variables"]["HTCGRID_CLUSTER_ENDPOINT"] == cluster["endpoint"]
    events = embedded_aws.client("events")
    for name in ("TerminationRule", "SpotInterruptionRule"):
        [target] = events.list_targets_by_rule(Rule=resource(embedded_aws, "with-groups", name))["Targets"]
        assert target["Arn"] == function["FunctionArn"]
