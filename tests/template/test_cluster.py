"""The stacks of a cluster and its network: closed by default, encrypted, and with no more rights than named."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from htcgrid_eks.node_drainer import Settings
from tests.template.stack import load, many, references

CLUSTER = load("eks/cluster.yaml")
NETWORK = load("network.yaml")
GROUP = load("eks/node-group.yaml")
STACKS = {"cluster": CLUSTER, "network": NETWORK, "node-group": GROUP}
RESOURCES: dict[str, dict[str, Any]] = CLUSTER["Resources"]
KEY = {"Fn::GetAtt": ["Key", "Arn"]}
THE_CLUSTER = {"Ref": "Cluster"}

OF_AWS = frozenset(
    {
        "AmazonEC2ContainerRegistryPullOnly",
        "AmazonEKSClusterPolicy",
        "AmazonEKSWorkerNodePolicy",
        "AmazonEKS_CNI_Policy",
        "CloudWatchAgentServerPolicy",
    }
)
"""What AWS itself keeps up for EKS and its add-ons."""

ON_NO_RESOURCE = frozenset(
    {
        "cloudwatch:GetMetricData",
        "logs:DescribeLogGroups",
        "pricing:GetProducts",
        # Reads, of which IAM could restrict the first; there is no profile that Karpenter made.
        "iam:GetInstanceProfile",
        "iam:ListInstanceProfiles",
        "ec2:GetInstanceTypesFromInstanceRequirements",
        # How Lambda joins a VPC, which the function's own code may not use.
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:UnassignPrivateIpAddresses",
    }
)
"""What IAM authorises on no single resource, besides what only describes."""


def of_type(stack: dict[str, Any], type_: str) -> dict[str, dict[str, Any]]:
    found = {name: each.get("Properties", {}) for name, each in stack["Resources"].items() if each["Type"] == type_}
    assert found, type_
    return found


def statements(effect: str = "Allow") -> Iterator[tuple[str, dict[str, Any]]]:
    for stack in (CLUSTER, NETWORK):
        for role, properties in of_type(stack, "AWS::IAM::Role").items():
            for policy in properties.get("Policies", []):
                for statement in policy["PolicyDocument"]["Statement"]:
                    if statement["Effect"] == effect:
                        yield role, statement


def value(given: Any) -> str:
    """A text, with what stacks fill in as it stands there."""
    return str(given.get("Fn::Sub", given) if isinstance(given, dict) else given)


# ---- The cluster ----


def test_only_the_vpc_reaches_the_api_server_unless_ranges_are_named() -> None:
    network = RESOURCES["Cluster"]["Properties"]["ResourcesVpcConfig"]
    assert network["EndpointPrivateAccess"] is True
    assert network["EndpointPublicAccess"] == {"Fn::If": ["HasApiServerCidrs", True, False]}
    assert network["PublicAccessCidrs"] == {
        "Fn::If": ["HasApiServerCidrs", {"Fn::Split": [",", {"Ref": "ApiServerCidrs"}]}, {"Ref": "AWS::NoValue"}]
    }
    assert CLUSTER["Parameters"]["ApiServerCidrs"]["Default"] == ""


@pytest.mark.parametrize(
    ("ranges", "legal"),
    [
        ("203.0.113.7/32", True),
        ("198.51.100.0/24", True),
        ("0.0.0.0/0", False),
        ("::/0", False),
        ("198.51.100.0/24,203.0.113.7/32", True),
        ("203.0.113.7/32,0.0.0.0/0", False),
        ("203.0.113.7/32,", False),
        ("", True),
    ],
)
def test_the_whole_internet_is_no_range(ranges: str, legal: bool) -> None:
    pattern = CLUSTER["Parameters"]["ApiServerCidrs"]["AllowedPattern"]
    assert (re.fullmatch(pattern, ranges) is not None) is legal


@pytest.mark.parametrize(("given", "needed"), [("VpcId", "SubnetIds"), ("SubnetIds", "VpcId")])
def test_a_vpc_and_its_subnets_are_named_together(given: str, needed: str) -> None:
    [rule] = [each for each in CLUSTER["Rules"].values() if references(each["RuleCondition"]) == {given}]
    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": given}, ""]}]}
    [assertion] = rule["Assertions"]
    assert assertion["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": needed}, ""]}]}
    assert needed in assertion["AssertDescription"]


def test_access_is_by_entries_alone_and_who_creates_the_stack_has_none() -> None:
    assert RESOURCES["Cluster"]["Properties"]["AccessConfig"] == {
        "AuthenticationMode": "API",
        "BootstrapClusterCreatorAdminPermissions": False,
    }
    entries = of_type(CLUSTER, "AWS::EKS::AccessEntry")
    assert [name for name, entry in entries.items() if "AccessPolicies" in entry] == ["AdminAccess"]
    assert entries["AdminAccess"]["PrincipalArn"] == {"Ref": "AdminPrincipalArn"}
    assert entries["NodeDrainerAccess"]["KubernetesGroups"] == ["htcgrid:node-drainer"]
    assert "system:masters" not in str(entries)


@pytest.mark.parametrize(
    ("arn", "legal"),
    [
        ("arn:aws:iam::123456789012:role/Admin", True),
        ("arn:aws:sts::123456789012:assumed-role/Admin/me", False),
        ("Admin", False),
    ],
)
def test_an_administrator_is_a_role_or_user_and_no_session(arn: str, legal: bool) -> None:
    assert (re.fullmatch(CLUSTER["Parameters"]["AdminPrincipalArn"]["AllowedPattern"], arn) is not None) is legal


def test_secrets_are_encrypted_with_the_key_and_who_did_what_is_logged() -> None:
    cluster = RESOURCES["Cluster"]["Properties"]
    assert cluster["EncryptionConfig"] == [{"Provider": {"KeyArn": KEY}, "Resources": ["secrets"]}]
    assert {each["Type"] for each in cluster["Logging"]["ClusterLogging"]["EnabledTypes"]} >= {"audit", "authenticator"}
    # EKS writes to a group of this name, and makes one of its own if it comes first.
    assert "ClusterLogs" in many(RESOURCES["Cluster"]["DependsOn"])
    assert value(RESOURCES["ClusterLogs"]["Properties"]["LogGroupName"]) == "/aws/eks/${AWS::StackName}/cluster"
    assert cluster["Name"] == {"Ref": "AWS::StackName"}


@pytest.mark.parametrize("stack", ["cluster", "network"])
def test_every_log_ends_and_is_encrypted_with_a_key_that_lets_it(stack: str) -> None:
    [granted] = [each for each in key_statements(STACKS[stack]) if each["Sid"] == "UsedByLogs"]
    [condition] = granted["Condition"].values()
    patterns = [
        value(each).rsplit(":log-group:", 1)[1] for each in many(condition["kms:EncryptionContext:aws:logs:arn"])
    ]
    for group in of_type(STACKS[stack], "AWS::Logs::LogGroup").values():
        assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}
        assert group["KmsKeyId"] == KEY
        name = value(group["LogGroupName"])
        assert [each for each in patterns if name.startswith(each.rstrip("*"))], name


def key_statements(stack: dict[str, Any]) -> list[dict[str, Any]]:
    key = stack["Resources"]["Key"]
    assert key["DeletionPolicy"].startswith("Retain")
    assert key["Properties"]["EnableKeyRotation"] is True
    found: list[dict[str, Any]] = key["Properties"]["KeyPolicy"]["Statement"]
    return found


def test_the_network_add_on_enforces_policies() -> None:
    assert '"enableNetworkPolicy": "true"' in RESOURCES["VpcCni"]["Properties"]["ConfigurationValues"]


def test_add_ons_that_need_a_node_wait_for_one_and_nodes_wait_for_the_others() -> None:
    before = set(RESOURCES["SystemNodeGroup"]["DependsOn"])
    after = {
        name
        for name, each in RESOURCES.items()
        if each["Type"] == "AWS::EKS::Addon" and each.get("DependsOn") == "SystemNodeGroup"
    }
    assert before == {"PodIdentityAgent", "KubeProxy", "VpcCni"}
    assert before | after == set(of_type(CLUSTER, "AWS::EKS::Addon"))


# ---- Nodes ----


@pytest.mark.parametrize("stack", ["cluster", "node-group"])
def test_no_pod_reaches_the_metadata_of_its_node_and_disks_are_encrypted(stack: str) -> None:
    for template in of_type(STACKS[stack], "AWS::EC2::LaunchTemplate").values():
        data = template["LaunchTemplateData"]
        assert data["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
        assert all(device["Ebs"]["Encrypted"] is True for device in data["BlockDeviceMappings"])
    for group in of_type(STACKS[stack], "AWS::EKS::Nodegroup").values():
        [launched_by] = references(group["LaunchTemplate"]["Id"])
        assert launched_by in of_type(STACKS[stack], "AWS::EC2::LaunchTemplate")


def test_nodes_of_the_system_and_of_agents_have_roles_of_their_own() -> None:
    [system] = of_type(CLUSTER, "AWS::EKS::Nodegroup").values()
    assert system["NodeRole"] == {"Fn::GetAtt": ["SystemNodeRole", "Arn"]}
    profile = RESOURCES["PoolInstanceProfile"]["Properties"]
    assert profile["Roles"] == [{"Ref": "PoolNodeRole"}]
    # EKS makes the entry of a managed group's role; that of instances which Karpenter starts is ours to make.
    assert RESOURCES["PoolNodeAccess"]["Properties"]["PrincipalArn"] == {"Fn::GetAtt": ["PoolNodeRole", "Arn"]}


def test_a_node_group_is_marked_as_karpenters_nodes_are() -> None:
    group = GROUP["Resources"]["NodeGroup"]["Properties"]
    assert group["Labels"] == {"htcgrid/pool": {"Ref": "Name"}}
    assert group["Taints"] == [{"Key": "htcgrid/pool", "Value": {"Ref": "Name"}, "Effect": "NO_SCHEDULE"}]


# ---- Rights ----


def test_a_role_of_pods_is_taken_by_one_service_account_of_this_cluster() -> None:
    associated: dict[str, tuple[Any, Any]] = {}
    for association in of_type(CLUSTER, "AWS::EKS::PodIdentityAssociation").values():
        [role] = references(association["RoleArn"])
        associated[role] = (association["Namespace"], association["ServiceAccount"])
    for add_on, namespace in (("VpcCni", "kube-system"), ("CloudWatchObservability", "amazon-cloudwatch")):
        [association] = RESOURCES[add_on]["Properties"]["PodIdentityAssociations"]
        [role] = references(association["RoleArn"])
        associated[role] = (namespace, association["ServiceAccount"])
    assert associated.pop("AgentRoleArn") == ({"Ref": "AgentNamespace"}, {"Ref": "AgentServiceAccount"})

    trusted: dict[str, tuple[Any, Any]] = {}
    for name, properties in of_type(CLUSTER, "AWS::IAM::Role").items():
        [statement] = properties["AssumeRolePolicyDocument"]["Statement"]
        if statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}:
            condition = statement["Condition"]
            assert condition["ArnEquals"] == {"aws:RequestTag/eks-cluster-arn": {"Fn::GetAtt": ["Cluster", "Arn"]}}
            names = condition["StringEquals"]
            trusted[name] = (
                names["aws:RequestTag/kubernetes-namespace"],
                names["aws:RequestTag/kubernetes-service-account"],
            )
    assert trusted == associated


def test_agents_fetch_functions_from_one_bucket_and_only_where_it_is_named() -> None:
    policy = RESOURCES["AgentFunctions"]
    assert policy["Condition"] == "HasFunctionBucket"
    [statement] = policy["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Action"] == "s3:GetObject"
    assert value(statement["Resource"]).endswith(":s3:::${FunctionBucket}/*")


def test_what_aws_keeps_up_is_all_that_is_not_written_here() -> None:
    for role in of_type(CLUSTER, "AWS::IAM::Role").values():
        attached = {value(arn).rsplit("/", 1)[1] for arn in role.get("ManagedPolicyArns", [])}
        assert attached <= OF_AWS
        assert not (attached and "Policies" in role)


def test_nothing_is_allowed_on_all_resources_but_what_iam_cannot_restrict() -> None:
    seen = set()
    for role, statement in statements():
        assert "*" not in str(statement["Action"]), role
        if statement["Resource"] == "*":
            seen |= {action for action in many(statement["Action"]) if ":Describe" not in action}
    assert seen <= ON_NO_RESOURCE
    assert seen >= {"cloudwatch:GetMetricData", "pricing:GetProducts"}


def test_karpenter_changes_nothing_but_what_it_made_for_this_cluster() -> None:
    writes = re.compile(r":(Run|Create|Terminate|Delete)")
    checked = set()
    for role, statement in statements():
        if role != "KarpenterRole" or not any(writes.search(each) for each in many(statement["Action"])):
            continue
        if statement["Sid"] in {"LaunchFrom", "HearOfInterruptions"}:
            continue
        tags = statement["Condition"]["StringEquals"]
        owned = {f"aws:{kind}Tag/eks:eks-cluster-name" for kind in ("Request", "Resource")}
        assert any(tags.get(key) == THE_CLUSTER for key in owned), statement["Sid"]
        checked |= set(many(statement["Action"]))
    assert checked == {
        "ec2:RunInstances", "ec2:CreateFleet", "ec2:CreateLaunchTemplate", "ec2:CreateTags",
        "ec2:TerminateInstances", "ec2:DeleteLaunchTemplate",
    }  # fmt: skip
    [launched_from] = [each for _, each in statements() if each["Sid"] == "LaunchFrom"]
    kinds = {value(each).rsplit(":", 1)[1] for each in launched_from["Resource"]}
    assert kinds == {"image/*", "snapshot/*", "security-group/*", "subnet/*", "capacity-reservation/*"}


def test_karpenter_gives_nodes_the_role_of_pools_alone() -> None:
    passed = [(role, each) for role, each in statements() if "iam:PassRole" in many(each["Action"])]
    [(role, statement)] = passed
    assert (role, statement["Resource"]) == ("KarpenterRole", {"Fn::GetAtt": ["PoolNodeRole", "Arn"]})
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": {"Fn::Sub": "ec2.${AWS::URLSuffix}"}}}


def test_groups_are_sized_and_told_to_go_on_in_this_cluster_alone() -> None:
    acting = [
        each
        for _, each in statements()
        if re.search(r"autoscaling:(Set|Terminate|Complete|Record)", str(each["Action"]))
    ]
    assert len(acting) == 2
    for statement in acting:
        assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/eks:cluster-name": THE_CLUSTER}}


def test_keda_looks_at_the_queues_of_the_grid_alone() -> None:
    [queues] = [each for role, each in statements() if role == "KedaRole" and "sqs" in str(each["Action"])]
    assert queues["Action"] == "sqs:GetQueueAttributes"
    assert value(queues["Resource"]).endswith(":${GridStack}-*")


def test_the_code_of_the_node_drainer_may_not_use_what_lambda_needs() -> None:
    [allowed] = [each for _, each in statements() if each["Sid"] == "JoinVpc"]
    [(role, denied)] = statements("Deny")
    assert role == "NodeDrainerRole"
    assert denied["Action"] == allowed["Action"]
    assert list(denied["Condition"]["ArnLike"]) == ["lambda:SourceFunctionArn"]


def test_a_rule_alone_fills_the_queue_of_interruptions_over_tls() -> None:
    policy = RESOURCES["InterruptionQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    allowed, denied = policy
    assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["InterruptionRule", "Arn"]}}}
    assert denied["Effect"] == "Deny"
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


# ---- Either Karpenter, or Cluster Autoscaler with the node drainer ----


def test_each_way_of_scaling_has_its_own_parts_and_no_other() -> None:
    def parts(condition: str) -> set[str]:
        return {name for name, each in RESOURCES.items() if each.get("Condition") == condition}

    karpenter, groups = parts("HasKarpenter"), parts("HasClusterAutoscaler")
    assert karpenter == {name for name in RESOURCES if name.startswith(("Karpenter", "Interruption"))}
    assert groups == {
        name
        for name in RESOURCES
        if name.startswith(("ClusterAutoscaler", "NodeDrainer", "TerminationRule", "SpotInterruptionRule"))
    }
    for name in RESOURCES.keys() - karpenter - groups:
        assert not references(RESOURCES[name]) & (karpenter | groups), name


def test_the_drainer_hears_of_terminations_and_of_spot_interruptions() -> None:
    rules = {name: each for name, each in of_type(CLUSTER, "AWS::Events::Rule").items() if "drainer" in str(each)}
    kinds = {kind for each in rules.values() for kind in each["EventPattern"]["detail-type"]}
    assert kinds == {"EC2 Instance-terminate Lifecycle Action", "EC2 Spot Instance Interruption Warning"}
    permitted = of_type(CLUSTER, "AWS::Lambda::Permission").values()
    assert {each["SourceArn"]["Fn::GetAtt"][0] for each in permitted} == set(rules)


def test_the_drainer_is_told_what_its_settings_read() -> None:
    variables = RESOURCES["NodeDrainer"]["Properties"]["Environment"]["Variables"]
    told = {name.removeprefix("HTCGRID_").lower() for name in variables if name.startswith("HTCGRID_")}
    required = {name for name, field in Settings.model_fields.items() if field.is_required()}
    assert required <= told <= Settings.model_fields.keys()


# ---- The network ----


def test_nothing_in_the_network_is_reached_from_the_internet() -> None:
    for subnet in of_type(NETWORK, "AWS::EC2::Subnet").values():
        assert subnet["MapPublicIpOnLaunch"] is False
    routes = of_type(NETWORK, "AWS::EC2::Route").values()
    assert all(route.keys() & {"NatGatewayId"} and not route.keys() & {"GatewayId"} for route in routes)
    assert NETWORK["Parameters"]["Egress"]["Default"] == CLUSTER["Parameters"]["Egress"]["Default"] == "endpoints"


def test_subnets_lie_in_three_zones() -> None:
    zones = [each["AvailabilityZone"]["Fn::Select"][0] for each in of_type(NETWORK, "AWS::EC2::Subnet").values()]
    assert sorted(zones) == [0, 1, 2]


NEEDED = {
    "agents": {"dynamodb", "s3", "sqs", "eks-auth"},
    "images": {"ecr.api", "ecr.dkr", "s3"},
    "nodes": {"ec2", "eks"},
    "keda": {"sqs", "monitoring", "eks-auth"},
    "karpenter": {"ec2", "eks", "sqs", "ssm", "eks-auth"},
    "cluster-autoscaler": {"autoscaling", "ec2", "eks", "eks-auth"},
    "container insights": {"logs", "monitoring", "eks-auth"},
    "roles that pods take themselves": {"sts"},
    "functions": {"dynamodb", "events", "s3", "sqs", "states", "xray"},
}


def test_a_pool_without_internet_has_an_endpoint_for_all_that_it_calls() -> None:
    endpoints = {}
    for name, each in NETWORK["Resources"].items():
        if each["Type"] == "AWS::EC2::VPCEndpoint":
            service = value(each["Properties"]["ServiceName"]).removeprefix("com.amazonaws.${AWS::Region}.")
            endpoints[service] = (name, each)
    assert set(endpoints) == set().union(*NEEDED.values())
    for service, (name, each) in endpoints.items():
        if each["Properties"]["VpcEndpointType"] == "Interface":
            assert each["Properties"]["PrivateDnsEnabled"] is True, name
            expected = {"ssm": "KarpenterUsesEndpoints", "autoscaling": "ClusterAutoscalerUsesEndpoints"}
            expected |= dict.fromkeys(("events", "states", "xray"), "FunctionsUseEndpoints")
            assert each["Condition"] == expected.get(service, "UsesEndpoints")
        else:
            assert "Condition" not in each, "a gateway costs nothing"


def test_traffic_is_logged() -> None:
    [log] = of_type(NETWORK, "AWS::EC2::FlowLog").values()
    assert (log["ResourceId"], log["TrafficType"]) == ({"Ref": "Vpc"}, "ALL")


# ---- Parameters and outputs ----

PARAMETERS = [(stack, name) for stack, template in STACKS.items() for name in template["Parameters"]]


@pytest.mark.parametrize(("stack", "name"), PARAMETERS)
def test_a_parameter_says_what_is_legal(stack: str, name: str) -> None:
    parameter = STACKS[stack]["Parameters"][name]
    assert parameter["Description"].endswith(".")
    assert "AllowedPattern" not in parameter or parameter["ConstraintDescription"].endswith(".")
    if parameter["Type"] == "Number":
        assert parameter.get("AllowedValues") or parameter["MinValue"] <= parameter["Default"] <= parameter["MaxValue"]
    default = parameter.get("Default")
    if default is None:
        assert "AllowedPattern" in parameter, "what must be given is checked"
    elif "AllowedPattern" in parameter:
        for part in default.split(",") if "List" in parameter["Type"] else [default]:
            assert re.fullmatch(parameter["AllowedPattern"], part)


@pytest.mark.parametrize("stack", STACKS)
def test_every_parameter_has_its_place_on_the_console_and_is_used(stack: str) -> None:
    template = STACKS[stack]
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(template["Parameters"])
    assert set(template["Parameters"]) <= references([template["Resources"], template.get("Conditions", {})])


def test_the_network_has_its_parameters_from_the_cluster_and_the_same_defaults() -> None:
    given = RESOURCES["Network"]["Properties"]["Parameters"]
    assert set(given) == set(NETWORK["Parameters"])
    for name, parameter in NETWORK["Parameters"].items():
        assert references(given[name]) == {name}
        assert CLUSTER["Parameters"][name]["Default"] == parameter["Default"]


def test_only_who_administers_and_who_computes_must_be_named() -> None:
    required = {name for name, each in CLUSTER["Parameters"].items() if "Default" not in each}
    assert required == {"AdminPrincipalArn", "AgentRoleArn"}
