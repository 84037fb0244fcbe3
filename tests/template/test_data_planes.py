"""The data planes: each whole by itself, closed to all but agents and functions, and none of them on a grid on S3."""

import itertools
import json
from datetime import timedelta
from typing import Any

import pytest

from htcgrid_controlplane.settings import Settings
from htcgrid_dataplane.store_settings import FilesystemSettings, RedisSettings, read_settings
from htcgrid_dataplane.stores import check_store
from tests.template.stack import TEMPLATE, complaints, load, many, references, rendered, statements

PLANES = TEMPLATE["Parameters"]["DataPlane"]["AllowedValues"]
FORMER = TEMPLATE["Parameters"]["FormerDataPlane"]["AllowedValues"]
FILE_SYSTEMS = TEMPLATE["Parameters"]["FileSystem"]["AllowedValues"]
NETWORK = {"VpcId": "vpc-1", "SubnetIds": "subnet-a,subnet-b,subnet-c", "AgentSecurityGroupId": "sg-agents"}
EACH = [
    pytest.param(
        {"DataPlane": plane, "FormerDataPlane": former, "FileSystem": system, **NETWORK},
        id=f"{plane}-{former}-{system}",
    )
    for plane, former, system in itertools.product(PLANES, FORMER, FILE_SYSTEMS)
    if plane != former
]
TOUCH_PAYLOADS = {"SessionsApiFunction", "ExpiredLeasesFunction", "DeadLettersFunction", "UndeliverableFunction"}
OF_DATA_PLANES = ("AWS::EC2::", "AWS::ElastiCache::", "AWS::EFS::", "AWS::FSx::")
EFS = {"DataPlane": "filesystem", "FileSystem": "efs", **NETWORK}
LUSTRE = {"DataPlane": "filesystem", "FileSystem": "fsx-lustre", **NETWORK}
REDIS = {"DataPlane": "redis", **NETWORK}
CACHE = {"DataPlane": "s3+redis", **NETWORK}


def resources(**given: Any) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = rendered(**given)["Resources"]
    return found


def types(**given: Any) -> set[str]:
    return {each["Type"] for each in resources(**given).values() if each["Type"].startswith(OF_DATA_PLANES)}


def one(type_: str, **given: Any) -> dict[str, Any]:
    [found] = [each["Properties"] for each in resources(**given).values() if each["Type"] == type_]
    return dict(found)


def settings(**given: Any) -> dict[str, Any]:
    """The variables of a function that touches payloads, beyond those of all functions."""
    environment = resources(**given)["SessionsApiFunction"]["Properties"].get("Environment", {})
    return {name: text(each) for name, each in environment.get("Variables", {}).items()}


def text(value: Any) -> str:
    """A value with the names of what it refers to in place of what CloudFormation puts there, and 6379 for ports."""
    if isinstance(value, str):
        return value
    [(function, operand)] = value.items()
    if function == "Fn::Join":
        return str(operand[0].join(text(each) for each in operand[1]))
    if function == "Fn::Sub":
        for name in sorted(each.split("}")[0] for each in operand.split("${")[1:]):
            known = {"RetentionDays": "7"}.get(name, "6379" if name.endswith("Port") else name)
            operand = operand.replace(f"${{{name}}}", known)
        return str(operand)
    return str(operand)


def output(name: str, **given: Any) -> str:
    return text(rendered(**given)["Outputs"][name]["Value"])


# ---- Which there are, and when ----


@pytest.mark.parametrize("given", EACH)
def test_nothing_refers_to_what_is_not_there(given: dict[str, str]) -> None:
    whole = rendered(**given)
    there = set(whole["Resources"]) | set(whole["Parameters"])
    for name, each in (whole["Resources"] | whole["Outputs"]).items():
        missing = {one for one in references(each) if not one.startswith("AWS::")} - there
        assert not missing, name
        assert set(many(each.get("DependsOn", []))) <= there, name


def test_a_grid_on_s3_has_nothing_of_them() -> None:
    assert types() == set()
    for name in TOUCH_PAYLOADS:
        assert not {"VpcConfig", "FileSystemConfigs"} & resources()[name]["Properties"].keys()
    assert settings() == {}
    policies = {
        policy["PolicyName"]
        for each in resources().values()
        for policy in each.get("Properties", {}).get("Policies", [])
        if isinstance(policy, dict)
    }
    assert policies & {"vpc", "redis", "efs", "lustre", "cache"} == set()
    assert (output("Store"), output("StoreSettings"), output("FormerStores")) == ("DataPlane", "{}", "{}")
    assert resources(FormerDataPlane="s3") == resources()


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (CACHE, {"AWS::ElastiCache::ServerlessCache"}),
        (REDIS, {"AWS::ElastiCache::ReplicationGroup"}),
        (EFS, {"AWS::EFS::FileSystem"}),
        (LUSTRE, {"AWS::FSx::FileSystem"}),
        (NETWORK | {"FormerDataPlane": "redis"}, {"AWS::ElastiCache::ReplicationGroup"}),
        (LUSTRE | {"DataPlane": "s3", "FormerDataPlane": "filesystem"}, {"AWS::FSx::FileSystem"}),
        # What was in the cache is in the bucket too.
        (NETWORK | {"FormerDataPlane": "s3+redis"}, set()),
        (EFS | {"FormerDataPlane": "redis"}, {"AWS::EFS::FileSystem", "AWS::ElastiCache::ReplicationGroup"}),
    ],
)  # fmt: skip
def test_there_is_what_is_asked_for_and_what_was_before(given: dict[str, str], kind: set[str]) -> None:
    stores = {
        "AWS::ElastiCache::ServerlessCache",
        "AWS::ElastiCache::ReplicationGroup",
        "AWS::EFS::FileSystem",
        "AWS::FSx::FileSystem",
    }
    assert types(**given) & stores == kind


@pytest.mark.parametrize("missing", NETWORK)
@pytest.mark.parametrize(
    "given",
    [CACHE, REDIS, EFS, LUSTRE, NETWORK | {"FormerDataPlane": "redis"}, NETWORK | {"FormerDataPlane": "filesystem"}],
)
def test_a_data_plane_without_a_network_is_refused_before_anything_is_made(given: dict[str, str], missing: str) -> None:
    assert complaints(**given) == []
    [complaint] = complaints(**(given | {missing: ""}))
    assert complaint.startswith(f"{missing} must name")


def test_a_data_plane_is_not_its_own_former_one() -> None:
    assert complaints() == []
    assert complaints(**EFS, FormerDataPlane="filesystem") == [
        "FormerDataPlane must be another one than DataPlane, or none."
    ]


# ---- Redis ----


def test_the_cache_is_encrypted_bounded_and_kept_nowhere_else() -> None:
    cache = one("AWS::ElastiCache::ServerlessCache", **CACHE)
    assert cache["KmsKeyId"] == {"Fn::GetAtt": ["Key", "Arn"]}
    assert references(cache["CacheUsageLimits"]) == {"CacheGigabytes"}
    assert "SnapshotRetentionLimit" not in cache


def test_redis_evicts_nothing_fails_over_and_is_encrypted() -> None:
    redis = one("AWS::ElastiCache::ReplicationGroup", **REDIS)
    parameters = one("AWS::ElastiCache::ParameterGroup", **REDIS)
    assert parameters["Properties"]["maxmemory-policy"] == "noeviction"
    assert parameters["CacheParameterGroupFamily"] == redis["Engine"] + redis["EngineVersion"].split(".")[0]
    assert redis["CacheParameterGroupName"] == {"Ref": "RedisParameters"}
    assert (redis["MultiAZEnabled"], redis["AutomaticFailoverEnabled"]) == (True, True)
    assert (redis["ClusterMode"], parameters["Properties"]["cluster-enabled"]) == ("enabled", "yes")
    assert (redis["TransitEncryptionEnabled"], redis["TransitEncryptionMode"]) == (True, "required")
    assert (redis["AtRestEncryptionEnabled"], redis["KmsKeyId"]) == (True, {"Fn::GetAtt": ["Key", "Arn"]})
    assert redis["UserGroupIds"] == [{"Ref": "CacheUserGroup"}]
    # It spans zones only with a copy of each shard.
    assert TEMPLATE["Parameters"]["RedisReplicas"]["MinValue"] == 1


def test_redis_is_resharded_in_place_and_leaves_no_snapshot() -> None:
    redis = resources(**REDIS)["Redis"]
    assert redis["UpdatePolicy"] == {"UseOnlineResharding": True}
    assert redis["Properties"]["SnapshotRetentionLimit"] == 0
    assert (redis["DeletionPolicy"], redis["UpdateReplacePolicy"]) == ("Delete", "Delete")


@pytest.mark.parametrize("given", [CACHE, REDIS])
def test_redis_knows_one_user_who_signs_in_by_iam(given: dict[str, str]) -> None:
    assert one("AWS::ElastiCache::UserGroup", **given)["UserIds"] == [{"Ref": "CacheUser"}]
    user = one("AWS::ElastiCache::User", **given)
    assert user["AuthenticationMode"] == {"Type": "iam"}
    assert user["UserId"] == user["UserName"]
    rights = user["AccessString"].split()
    assert rights[:3] == ["on", "~*", "-@all"]
    assert rights.index("-@dangerous") < rights.index("+info")
    assert not {"+@all", "+@dangerous", "+@admin", "+@scripting", "+eval", "+flushall"} & set(rights)


# ---- File systems ----


def test_efs_is_encrypted_and_asks_who_comes_over_tls_through_the_access_point() -> None:
    efs = one("AWS::EFS::FileSystem", **EFS)
    assert (efs["Encrypted"], efs["KmsKeyId"]) == (True, {"Fn::GetAtt": ["Key", "Arn"]})
    assert efs["ThroughputMode"] == "elastic"
    tls, through = efs["FileSystemPolicy"]["Statement"]
    assert {tls["Effect"], through["Effect"]} == {"Deny"}
    assert tls["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert through["Condition"] == {"Null": {"elasticfilesystem:AccessPointArn": "true"}}
    role = "arn:aws:iam::000000000000:role/Node"
    *_, mount = one("AWS::EFS::FileSystem", **EFS, FileSystemMountRoleArn=role)["FileSystemPolicy"]["Statement"]
    assert mount["Principal"] == {"AWS": {"Ref": "FileSystemMountRoleArn"}}
    assert "elasticfilesystem:ClientRootAccess" not in mount["Action"]


def test_whoever_comes_through_the_access_point_is_the_agents_user() -> None:
    point = one("AWS::EFS::AccessPoint", **EFS)
    assert point["PosixUser"] == {"Uid": "10001", "Gid": "10000"}
    made = point["RootDirectory"]["CreationInfo"]
    assert (made["OwnerUid"], made["OwnerGid"], made["Permissions"]) == ("10001", "10000", "0770")
    assert point["RootDirectory"]["Path"] != "/"


@pytest.mark.parametrize("subnets", ["subnet-a,subnet-b", "subnet-a,subnet-b,subnet-c"])
def test_every_subnet_has_a_mount_target_and_functions_wait_for_it(subnets: str) -> None:
    there = resources(**(EFS | {"SubnetIds": subnets}))
    targets = {name: each for name, each in there.items() if each["Type"] == "AWS::EFS::MountTarget"}
    chosen = [each["Properties"]["SubnetId"]["Fn::Select"] for each in targets.values()]
    assert chosen == [[number, {"Ref": "SubnetIds"}] for number in range(len(subnets.split(",")))]
    point = there["EfsAccessPoint"]
    assert set(point["DependsOn"]) | references(point["Properties"]) >= set(targets)
    for name in TOUCH_PAYLOADS:
        assert references(there[name]["Properties"]["FileSystemConfigs"]) == {"EfsAccessPoint"}


def test_lustre_is_replicated_encrypted_compressed_and_linked_to_the_bucket() -> None:
    lustre = one("AWS::FSx::FileSystem", **LUSTRE)
    assert lustre["KmsKeyId"] == {"Fn::GetAtt": ["Key", "Arn"]}
    configuration = lustre["LustreConfiguration"]
    assert configuration["DeploymentType"] == "PERSISTENT_2"
    assert configuration["DataCompressionType"] == "LZ4"
    link = one("AWS::FSx::DataRepositoryAssociation", **LUSTRE)
    assert link["DataRepositoryPath"] == {"Fn::Sub": "s3://${DataBucket}/lustre/"}
    both = {"Events": ["NEW", "CHANGED", "DELETED"]}
    assert link["S3"] == {"AutoExportPolicy": both, "AutoImportPolicy": both}


def test_fsx_uses_the_key_by_its_role_in_this_account_and_through_s3_alone() -> None:
    added = [
        each
        for each in resources(**LUSTRE)["Key"]["Properties"]["KeyPolicy"]["Statement"]
        if each not in resources()["Key"]["Properties"]["KeyPolicy"]["Statement"]
    ]
    [statement] = added
    equal = statement["Condition"]["StringEquals"]
    assert equal["kms:CallerAccount"] == {"Ref": "AWS::AccountId"}
    assert equal["kms:ViaService"] == {"Fn::Sub": "s3.${AWS::Region}.${AWS::URLSuffix}"}
    [role] = statement["Condition"]["ArnLike"].values()
    assert role["Fn::Sub"].startswith(
        "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/aws-service-role/s3.data-source.lustre."
    )


# ---- Who reaches them ----


def rules(direction: str, **given: Any) -> set[tuple[str, str, int, int]]:
    """Every rule of the security groups: of which, from or to where, and its ports."""
    there = resources(**given)
    found = set()
    for name, each in there.items():
        properties = each.get("Properties", {})
        if each["Type"] == "AWS::EC2::SecurityGroup":
            found |= {
                (name, _end(rule), rule["FromPort"], rule["ToPort"])
                for rule in properties.get(f"SecurityGroup{direction}", [])
            }
        if each["Type"] == f"AWS::EC2::SecurityGroup{direction}":
            [group] = references(properties["GroupId"])
            found.add((group, _end(properties), properties["FromPort"], properties["ToPort"]))
    return found


def _end(rule: dict[str, Any]) -> str:
    assert rule["IpProtocol"] in ("tcp", "icmp")
    if "CidrIp" in rule:
        return str(rule["CidrIp"])
    [end] = references(rule.get("SourceSecurityGroupId") or rule["DestinationSecurityGroupId"])
    return end


AGENTS, FUNCTIONS = "AgentSecurityGroupId", "FunctionsSecurityGroup"
LUSTRE_PORTS = ((988, 988), (1018, 1023))


def test_agents_and_functions_reach_them_and_nobody_else() -> None:
    assert rules("Ingress", **CACHE) == {("CacheSecurityGroup", AGENTS, 6379, 6379)}
    assert rules("Ingress", **REDIS) == {("CacheSecurityGroup", each, 6379, 6379) for each in (AGENTS, FUNCTIONS)}
    assert rules("Ingress", **EFS) == {("EfsSecurityGroup", each, 2049, 2049) for each in (AGENTS, FUNCTIONS)}
    assert rules("Ingress", **LUSTRE) == {("LustreSecurityGroup", AGENTS, *ports) for ports in LUSTRE_PORTS} | {
        ("LustreSecurityGroup", "LustreSecurityGroup", 988, 1023)
    }


def test_nothing_goes_out_but_what_is_needed() -> None:
    nowhere, https = ("127.0.0.1/32", -1, -1), (FUNCTIONS, "0.0.0.0/0", 443, 443)
    assert rules("Egress", **CACHE) == {("CacheSecurityGroup", *nowhere)}
    assert rules("Egress", **REDIS) == {
        ("CacheSecurityGroup", *nowhere),
        https,
        (FUNCTIONS, "CacheSecurityGroup", 6379, 6379),
    }
    assert rules("Egress", **EFS) == {
        ("EfsSecurityGroup", *nowhere),
        https,
        (FUNCTIONS, "EfsSecurityGroup", 2049, 2049),
    }
    assert rules("Egress", **LUSTRE) == {("LustreSecurityGroup", AGENTS, *ports) for ports in LUSTRE_PORTS} | {
        ("LustreSecurityGroup", "LustreSecurityGroup", 988, 1023)
    }


def added(**given: Any) -> dict[str, set[tuple[str, ...]]]:
    """What roles may do beyond those of a grid on S3, by role."""
    before = set(map(str, statements()))
    found: dict[str, set[tuple[str, ...]]] = {}
    for each in statements(**given):
        if str(each) not in before:
            found.setdefault(each.role, set()).add(each.actions)
    return found


TOUCH_BY_ROLE = {each.replace("Function", "Role") for each in TOUCH_PAYLOADS}
SIGN_IN = ("elasticache:Connect",)
MOUNT = ("elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite")


def test_who_touches_payloads_may_reach_them_and_no_more() -> None:
    [join] = {each.actions for each in statements(**REDIS) if each.sid == "JoinVpc"}
    assert added(**REDIS) == {"AgentRole": {SIGN_IN}} | {role: {join, SIGN_IN} for role in TOUCH_BY_ROLE}
    assert added(**EFS) == {"AgentRole": {MOUNT}} | {role: {join, MOUNT} for role in TOUCH_BY_ROLE}
    assert added(**LUSTRE) == {role: {("s3:GetObject",)} for role in TOUCH_BY_ROLE}
    assert added(**CACHE) == {}
    policy = one("AWS::IAM::Policy", **CACHE)
    assert policy["Roles"] == [{"Ref": "AgentRole"}]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert statement["Action"] == SIGN_IN[0]
    assert references(statement["Resource"]) == {"Cache", "CacheUser"}


def test_rights_are_for_the_store_alone() -> None:
    for each in statements(**(EFS | {"FormerDataPlane": "redis"})):
        if each.actions == SIGN_IN:
            assert references(list(each.resources)) >= {"Redis", "CacheUser"}
        if each.actions == MOUNT:
            assert each.resources == ({"Fn::GetAtt": ["Efs", "Arn"]},)
            assert each.condition == {
                "StringEquals": {"elasticfilesystem:AccessPointArn": {"Fn::GetAtt": ["EfsAccessPoint", "Arn"]}}
            }
    for each in statements(**LUSTRE):
        if each.sid == "Exported":
            assert each.resources == ({"Fn::Sub": "${DataBucket.Arn}/lustre/*"},)


def test_the_code_of_functions_may_not_use_what_lambda_needs() -> None:
    join = {each.role: each for each in statements(**REDIS) if each.sid == "JoinVpc"}
    denied = {each.role: each for each in statements("Deny", **REDIS)}
    assert set(join) == set(denied) == TOUCH_BY_ROLE
    for role, each in denied.items():
        assert each.actions == join[role].actions
        assert list(each.condition["ArnLike"]) == ["lambda:SourceFunctionArn"]


NOT_FROM_WITHIN = {"ec2", "elasticache", "elasticfilesystem", "kms", "logs"}
"""What Lambda or a service does for a function, outside of its network."""


def test_functions_in_the_vpc_have_an_endpoint_for_all_that_they_call_which_lets_them_do_it() -> None:
    endpoints = {
        each["Properties"]["ServiceName"]["Fn::Sub"].rsplit(".", 1)[-1]: each["Properties"]
        for each in load("network.yaml")["Resources"].values()
        if each["Type"] == "AWS::EC2::VPCEndpoint"
    }
    called = {action for each in statements(**REDIS) if each.role in TOUCH_BY_ROLE for action in each.actions}
    for action in called:
        service = action.split(":")[0]
        if service not in NOT_FROM_WITHIN:
            policy = endpoints[service].get("PolicyDocument")
            assert policy is None or action in many(policy["Statement"][0]["Action"]), action
    for each in endpoints.values():
        for statement in each.get("PolicyDocument", {"Statement": []})["Statement"]:
            assert statement["Condition"] == {"StringEquals": {"aws:PrincipalAccount": {"Ref": "AWS::AccountId"}}}


# ---- What functions and agents are told ----


def test_functions_that_touch_payloads_are_in_the_vpc_where_it_takes_that() -> None:
    for given, within in (
        (CACHE, False),
        (LUSTRE, False),
        (REDIS, True),
        (EFS, True),
        (NETWORK | {"FormerDataPlane": "redis"}, True),
    ):
        in_vpc = {name for name, each in resources(**given).items() if "VpcConfig" in each.get("Properties", {})}
        assert in_vpc == (TOUCH_PAYLOADS if within else set())
    for name in TOUCH_PAYLOADS:
        assert resources(**REDIS)[name]["Properties"]["VpcConfig"] == {
            "SecurityGroupIds": [{"Fn::GetAtt": ["FunctionsSecurityGroup", "GroupId"]}],
            "SubnetIds": {"Ref": "SubnetIds"},
        }
        [mount] = resources(**EFS)[name]["Properties"]["FileSystemConfigs"]
        assert mount["LocalMountPath"] == "/mnt/payloads"


def test_functions_are_told_which_stores_there_are() -> None:
    redis = json.loads(output("StoreSettings", **REDIS))
    folder = {"folder": "/mnt/payloads", "keep_days": "7"}
    assert settings(**CACHE) == {}
    assert settings(**REDIS).keys() == {"HTCGRID_STORE", "HTCGRID_STORE_SETTINGS"}
    assert settings(**REDIS)["HTCGRID_STORE"] == "redis"
    assert json.loads(settings(**REDIS)["HTCGRID_STORE_SETTINGS"]) == redis
    assert settings(**EFS)["HTCGRID_STORE"] == "filesystem"
    assert json.loads(settings(**EFS)["HTCGRID_STORE_SETTINGS"]) == folder
    # No function mounts Lustre, so they write to S3 and read what it exports.
    exported = {"filesystem": {"export_prefix": "lustre/"}}
    assert settings(**LUSTRE).keys() == {"HTCGRID_FORMER_STORES"}
    assert json.loads(settings(**LUSTRE)["HTCGRID_FORMER_STORES"]) == exported
    both = settings(**LUSTRE, FormerDataPlane="redis")
    assert json.loads(both["HTCGRID_FORMER_STORES"]) == exported | {"redis": redis}
    before = settings(**(REDIS | {"FormerDataPlane": "filesystem"}))
    assert (before["HTCGRID_STORE"], json.loads(before["HTCGRID_FORMER_STORES"])) == ("redis", {"filesystem": folder})


@pytest.mark.parametrize("given", EACH)
def test_every_store_that_functions_and_agents_are_told_of_can_be_opened(given: dict[str, str]) -> None:
    told = settings(**given)
    assert {name.removeprefix("HTCGRID_").lower() for name in told} <= set(Settings.model_fields)
    if "HTCGRID_STORE" in told:
        check_store(told["HTCGRID_STORE"], json.loads(told["HTCGRID_STORE_SETTINGS"]))
    of_agents = json.loads(output("FormerStores", **given)) | {
        given["DataPlane"]: json.loads(output("StoreSettings", **given))
    }
    for name, each in [*json.loads(told.get("HTCGRID_FORMER_STORES", "{}")).items(), *of_agents.items()]:
        check_store(name, each)
    assert rendered(**given)["Outputs"]["Store"]["Value"] == {"Ref": "DataPlane"}


def test_agents_are_told_what_they_take() -> None:
    cache = read_settings(RedisSettings, json.loads(output("StoreSettings", **CACHE)))
    assert (cache.auth, cache.cluster, cache.serverless, cache.url) == (
        "iam",
        True,
        True,
        "rediss://Cache.Endpoint.Address:6379",
    )
    redis = read_settings(RedisSettings, json.loads(output("StoreSettings", **REDIS)))
    assert (redis.auth, redis.cluster, redis.serverless, redis.cache) == ("iam", True, False, "Redis")
    assert redis.keep == timedelta(days=7)
    assert redis.url.startswith("rediss://")
    for given in (EFS, LUSTRE):
        system = read_settings(FilesystemSettings, json.loads(output("StoreSettings", **given)))
        assert (str(system.folder), system.keep) == ("/mnt/payloads", timedelta(days=7))
    former = json.loads(output("FormerStores", **(EFS | {"DataPlane": "s3", "FormerDataPlane": "filesystem"})))
    assert former == {"filesystem": {"folder": "/mnt/payloads", "keep_days": "7"}}
    assert json.loads(output("FormerStores", **NETWORK, FormerDataPlane="redis")).keys() == {"redis"}


# ---- A store that the stack does not make ----


OTHER = {"Store": "mine", "StoreSettings": '{"place": "there"}'}


def test_functions_and_agents_are_told_of_a_store_that_the_stack_does_not_make() -> None:
    told = settings(**OTHER)
    assert (told["HTCGRID_STORE"], told["HTCGRID_STORE_SETTINGS"]) == ("Store", "StoreSettings")  # the parameters
    assert (output("Store", **OTHER), output("StoreSettings", **OTHER)) == ("Store", "StoreSettings")
    assert types(**OTHER) == set()
    assert "HTCGRID_STORE" not in settings()
    assert output("Store") == "DataPlane"
    assert output("StoreSettings") == "{}"


def test_a_store_is_made_by_the_stack_or_by_somebody_else() -> None:
    assert complaints(**OTHER) == []
    assert complaints(Store="mine") == [
        "StoreSettings must be a JSON object, if only {}, since Store names a store that this stack does not make."
    ]
    assert complaints(**OTHER, **REDIS) == [
        "DataPlane must be s3, since Store names a store that this stack does not make."
    ]
