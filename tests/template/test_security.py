"""Encrypted, closed to the public, over TLS alone, and with no more rights than named."""

import importlib.util
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.template.stack import (
    RESOURCES,
    TASK_QUEUES,
    TEMPLATE,
    Statement,
    many,
    names,
    of_type,
    references,
    rendered,
    resource_policies,
    statements,
)

KEY = {"Fn::GetAtt": ["Key", "Arn"]}
STATEMENTS = list(statements())
"""Of a grid on S3; test_data_planes.py has what other data planes add."""
ON_ALL_DATA_PLANES = STATEMENTS + [
    each
    for given in (
        {"DataPlane": "filesystem", "FileSystem": "efs", "FormerDataPlane": "redis"},
        {"DataPlane": "filesystem", "FileSystem": "fsx-lustre"},
    )
    for each in statements(**given)
    if each not in STATEMENTS
]

# What IAM authorises on no single resource; the template says beside each where AWS says so.
ON_NO_RESOURCE = frozenset(
    {
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
        "states:SendTaskSuccess",
        "states:SendTaskFailure",
        "logs:CreateLogDelivery",
        "logs:GetLogDelivery",
        "logs:UpdateLogDelivery",
        "logs:DeleteLogDelivery",
        "logs:ListLogDeliveries",
        "logs:PutResourcePolicy",
        "logs:DescribeResourcePolicies",
        "logs:DescribeLogGroups",
        "cloudwatch:PutMetricData",
        "xray:PutTraceSegments",
        "xray:PutTelemetryRecords",
        "xray:GetSamplingRules",
        "xray:GetSamplingTargets",
    }
)


@pytest.mark.parametrize("name", names("AWS::DynamoDB::Table"))
def test_a_table_is_encrypted_with_the_key_and_forgets(name: str) -> None:
    table = of_type("AWS::DynamoDB::Table")[name]
    assert table["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY}
    # What a tenant uses is counted for as long as there is the tenant.
    forgets = {"AttributeName": "expires_at", "Enabled": True} if name != "TenantsTable" else None
    assert table.get("TimeToLiveSpecification") == forgets
    assert table["BillingMode"] == "PAY_PER_REQUEST"


@pytest.mark.parametrize("name", names("AWS::SQS::Queue", "AWS::SNS::Topic"))
def test_a_queue_or_topic_is_encrypted_with_the_key(name: str) -> None:
    assert RESOURCES[name]["Properties"]["KmsMasterKeyId"] == KEY


@pytest.mark.parametrize("name", names("AWS::Logs::LogGroup"))
def test_a_log_group_is_encrypted_with_the_key_and_forgets(name: str) -> None:
    group = of_type("AWS::Logs::LogGroup")[name]
    assert group["KmsKeyId"] == KEY
    assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}


@pytest.mark.parametrize("name", names("AWS::S3::Bucket"))
def test_a_bucket_is_encrypted_with_the_key_closed_and_forgets(name: str) -> None:
    bucket = of_type("AWS::S3::Bucket")[name]
    [rule] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    assert bucket["PublicAccessBlockConfiguration"] == dict.fromkeys(
        ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
    )
    assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert any("ExpirationInDays" in rule for rule in bucket["LifecycleConfiguration"]["Rules"])
    assert all(rule["Status"] == "Enabled" for rule in bucket["LifecycleConfiguration"]["Rules"])


def test_the_key_is_rotated() -> None:
    assert [key["EnableKeyRotation"] for key in of_type("AWS::KMS::Key").values()] == [True]


@pytest.mark.parametrize(
    ("type_", "policy_type", "field", "action"),
    [
        ("AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "Queues", "sqs:*"),
        ("AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "Topics", "sns:Publish"),
        ("AWS::S3::Bucket", "AWS::S3::BucketPolicy", "Bucket", "s3:*"),
    ],
)
def test_everything_with_a_policy_of_its_own_refuses_plain_http(
    type_: str, policy_type: str, field: str, action: str
) -> None:
    refusing = [
        name
        for name, policy in resource_policies(policy_type, field)
        if any(
            statement["Effect"] == "Deny"
            and statement["Principal"] == "*"
            and statement["Action"] == action
            and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
            and (statement["Resource"] == "*" or name in references(statement["Resource"]))
            for statement in policy
        )
    ]
    assert sorted(refusing) == sorted(names(type_))


@pytest.mark.parametrize("policy_type", ["AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy", "AWS::S3::BucketPolicy"])
def test_no_policy_lets_strangers_in(policy_type: str) -> None:
    for properties in of_type(policy_type).values():
        for statement in properties["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Allow":
                assert "*" not in many(statement["Principal"])
                assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def _name(statement: Statement) -> str:
    return f"{statement.role}-{statement.sid}"


@pytest.mark.parametrize("statement", ON_ALL_DATA_PLANES, ids=_name)
def test_a_role_has_no_wildcard_but_where_aws_offers_nothing_else(statement: Statement) -> None:
    assert not [action for action in statement.actions if "*" in action]
    for resource in statement.resources:
        if resource == "*":
            assert set(statement.actions) <= ON_NO_RESOURCE
        elif resource != TASK_QUEUES:
            assert references(resource) & set(RESOURCES), f"{resource} names nothing of this stack"


@cache
def services() -> dict[str, dict[str, Any]]:
    """What can be allowed of each service of AWS, as cfn-lint knows it. Its package takes seconds to import."""
    (package,) = importlib.util.find_spec("cfnlint").submodule_search_locations  # type: ignore[union-attr, misc]
    known: dict[str, dict[str, Any]] = json.loads(Path(package, "data/AdditionalSpecs/Policies.json").read_bytes())
    return known


@pytest.mark.parametrize("statement", ON_ALL_DATA_PLANES, ids=_name)
def test_every_action_exists_in_aws(statement: Statement) -> None:
    for action in statement.actions:
        service, _, name = action.partition(":")
        known = {each.lower() for each in services()[service]["Actions"]}
        assert name.lower() in known, action


def test_an_agent_may_do_what_it_needs_and_no_more() -> None:
    granted: dict[str, set[str]] = {}
    for statement in STATEMENTS:
        for action in statement.actions if statement.role == "AgentRole" else ():
            named = {str(sorted(references(resource))) for resource in statement.resources}
            granted[action] = granted.get(action, set()) | named
    tasks = {str(sorted(references(TASK_QUEUES)))}
    assert granted == {
        "sqs:ReceiveMessage": tasks,
        "sqs:DeleteMessage": tasks,
        "sqs:ChangeMessageVisibility": tasks,
        "sqs:SendMessage": {"['TaskEventsQueue']"},
        "dynamodb:GetItem": {"['ChunksTable']", "['PartitionsTable']"},
        "dynamodb:PartiQLUpdate": {"['ChunksTable']"},
        "s3:GetObject": {"['DataBucket']"},
        "s3:PutObject": {"['DataBucket']"},
        "s3:AbortMultipartUpload": {"['DataBucket']"},
        "kms:Decrypt": {"['Key']"},
        "kms:GenerateDataKey": {"['Key']"},
    }


def test_an_agent_writes_results_alone() -> None:
    [write] = [each for each in STATEMENTS if each.role == "AgentRole" and "s3:PutObject" in each.actions]
    assert write.resources == ({"Fn::Sub": "${DataBucket.Arn}/*/results/*.*"},)


def test_an_agent_writes_no_attribute_but_those_of_an_attempt() -> None:
    [write] = [each for each in STATEMENTS if "dynamodb:PartiQLUpdate" in each.actions and each.role == "AgentRole"]
    named = set(write.condition["ForAllValues:StringEquals"]["dynamodb:Attributes"])
    assert {"bucket", "chunk", "owner", "attempt", "outcomes", "results"} <= named
    # Nothing that says whose a chunk is, what was submitted and for how long it is kept,
    assert not named & {"tenant", "inputs", "inputs_bytes", "inputs_edition", "size", "first_task", "expires_at"}
    # nor anything of a bucket's account, which lies in the same table.
    assert not named & {"submitted", "completed", "failed", "cancelled", "finished", "expected", "submitted_chunks"}


def test_an_agent_sees_what_partitions_preload_and_nothing_else_of_partitions() -> None:
    table = {"Fn::GetAtt": ["PartitionsTable", "Arn"]}
    [read] = [each for each in STATEMENTS if each.role == "AgentRole" and table in each.resources]
    assert (read.actions, read.resources) == (("dynamodb:GetItem",), (table,))
    assert read.condition["ForAllValues:StringEquals"] == {"dynamodb:Attributes": ["partition", "entry", "preload"]}


ENCRYPTED = {"dynamodb", "s3", "sqs", "sns"}
"""Services whose resources of this stack are encrypted with the key, by the prefix of their actions."""


@pytest.mark.parametrize("role", sorted({each.role for each in STATEMENTS}))
def test_a_role_uses_the_key_through_the_services_that_it_calls_and_no_other(role: str) -> None:
    mine = [each for each in STATEMENTS if each.role == role]
    called = {action.split(":")[0] for each in mine for action in each.actions if each.sid != "UseKey"}
    through = set()
    for each in mine:
        if "kms:Decrypt" in each.actions:
            assert each.resources == (KEY,)
            via = many(each.condition["StringEquals"]["kms:ViaService"])
            through |= {text["Fn::Sub"].removesuffix(".${AWS::Region}.${AWS::URLSuffix}") for text in via}
        else:
            assert not any(action.startswith("kms:") for action in each.actions)
    assert through == called & ENCRYPTED


CONTEXTS = {
    "dynamodb": ("AWS::DynamoDB::Table", "aws:dynamodb:tableName", {"Ref"}),
    "s3": ("AWS::S3::Bucket", "aws:s3:arn", {"Fn::GetAtt"}),
    "sns": ("AWS::SNS::Topic", "aws:sns:topicArn", {"Ref"}),
    "sqs": ("AWS::SQS::Queue", "aws:sqs:arn", {"Fn::GetAtt"}),
}
"""By which key each service names what it encrypts, and how the template gives that: a table's name, ARNs else. With
bucket keys, as here, S3 names the bucket."""


@pytest.mark.parametrize("role", sorted({each.role for each in STATEMENTS if "kms:Decrypt" in each.actions}))
def test_a_role_uses_the_key_for_its_own_tables_queues_topics_and_buckets_alone(role: str) -> None:
    mine = [each for each in STATEMENTS if each.role == role]
    used = {
        context: {
            name
            for each in mine
            if any(action.startswith(f"{service}:") for action in each.actions)
            for name in references(list(each.resources)) & set(names(kind))
        }
        for service, (kind, context, _) in CONTEXTS.items()
    }
    [key] = [each for each in mine if "kms:Decrypt" in each.actions]
    tasks = any(TASK_QUEUES in each.resources for each in mine)
    allowed = dict(key.condition["StringLikeIfExists" if tasks else "StringEqualsIfExists"])
    for _, context, how in CONTEXTS.values():
        given = many(allowed.pop(f"kms:EncryptionContext:{context}", []))
        if context == "aws:sqs:arn":
            assert (TASK_QUEUES in given) is tasks
            given = [each for each in given if each != TASK_QUEUES]
        assert references(given) == used[context]
        assert all(value.keys() == how for value in given)
    assert not allowed
    [bucket] = of_type("AWS::S3::Bucket").values()
    [rule] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["BucketKeyEnabled"] is True


def test_the_key_serves_the_logs_of_this_stack_alone_and_each_service_for_its_purpose() -> None:
    statements = rendered()["Resources"]["Key"]["Properties"]["KeyPolicy"]["Statement"]
    conditions = {each["Sid"]: each.get("Condition") for each in statements}
    logs = conditions["UsedByLogs"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]["Fn::Sub"]
    # CloudFormation names a log group without a name after its stack.
    assert logs.endswith(":log-group:${AWS::StackName}-*")
    assert all("LogGroupName" not in group for group in of_type("AWS::Logs::LogGroup").values())
    assert set(conditions["UsedByEvents"]) == {"StringEquals", "ArnLike"}
    assert conditions["AdministeredByIam"] is None


def test_metrics_are_published_into_the_namespace_of_the_grid_alone() -> None:
    publishing = [each for each in STATEMENTS if "cloudwatch:PutMetricData" in each.actions]
    assert [each.role for each in publishing] == ["ScalingRole"]
    assert [each.condition for each in publishing] == [{"StringEquals": {"cloudwatch:namespace": "HTCGrid"}}]


def test_nobody_writes_results_but_who_runs_tasks_or_gives_them_up() -> None:
    writers = {
        each.role
        for each in STATEMENTS
        if "s3:PutObject" in each.actions
        and not all(re.search("/(inputs|data)/", resource["Fn::Sub"]) for resource in each.resources)
    }
    assert writers == {"AgentRole", "ExpiredLeasesRole", "UndeliverableRole"}


def test_who_writes_results_or_shared_data_may_abort_the_upload_of_a_large_one() -> None:
    for each in STATEMENTS:
        writes = "s3:PutObject" in each.actions and any(
            re.search("/(results|data)/", resource["Fn::Sub"]) for resource in each.resources
        )
        assert writes == ("s3:AbortMultipartUpload" in each.actions), (each.role, each.sid)
    [bucket] = of_type("AWS::S3::Bucket").values()
    rules = bucket["LifecycleConfiguration"]["Rules"]
    assert {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}.items() <= {
        name: value for rule in rules for name, value in rule.items() if rule["Status"] == "Enabled"
    }.items()


def test_no_role_has_policies_that_others_write() -> None:
    for name, role in of_type("AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in role, name
    assert not any("Policies" in each for each in of_type("AWS::Serverless::Function").values())


@pytest.mark.parametrize("name", names("AWS::ApiGatewayV2::Route"))
def test_a_route_is_authorised_or_opens_with_a_ticket(name: str) -> None:
    route = of_type("AWS::ApiGatewayV2::Route")[name]
    if route["ApiId"] == {"Ref": "HttpApi"}:
        assert route["AuthorizationType"] == "JWT"
        assert route["AuthorizerId"] == {"Ref": "HttpAuthorizer"}
    else:
        assert route["RouteKey"] in ("$connect", "$default")


def test_users_are_made_by_administrators_alone() -> None:
    for pool in of_type("AWS::Cognito::UserPool").values():
        assert pool["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    for client in of_type("AWS::Cognito::UserPoolClient").values():
        assert client["PreventUserExistenceErrors"] == "ENABLED"


def test_no_secret_is_written_in_the_template() -> None:
    text = json.dumps(RESOURCES).lower()
    assert not [word for word in ("akia", "secretaccesskey", "-----begin") if word in text]


def test_an_api_takes_so_many_requests_and_no_more() -> None:
    for name, stage in of_type("AWS::ApiGatewayV2::Stage").items():
        settings = stage["DefaultRouteSettings"]
        kind = name.removesuffix("Stage")
        assert settings == {
            "ThrottlingRateLimit": {"Ref": f"{kind}RateLimit"},
            "ThrottlingBurstLimit": {"Ref": f"{kind}BurstLimit"},
        }


def test_a_role_trusts_services_for_this_account_alone_and_nobody_else_by_default() -> None:
    for name, role in of_type("AWS::IAM::Role").items():
        for trust in role["AssumeRolePolicyDocument"]["Statement"]:
            if "Fn::If" in trust:
                condition, statement, otherwise = trust["Fn::If"]
                assert (condition, otherwise) == ("HasAgentTrustedPrincipal", {"Ref": "AWS::NoValue"})
                assert statement["Principal"] == {"AWS": {"Ref": "AgentTrustedPrincipal"}}
            else:
                assert set(trust["Principal"]) == {"Service"}, name
                assert "AccountId" in json.dumps(trust["Condition"]), name
    assert TEMPLATE["Parameters"]["AgentTrustedPrincipal"]["Default"] == ""


def test_addresses_are_right_in_every_partition() -> None:
    found = [text for text in texts(RESOURCES) if "amazonaws.com" in text]
    # Principals have the same name everywhere ("AWS service principals", IAM User Guide), and so has the path of a
    # role that a service makes.
    assert all(
        re.fullmatch(r"(arn:.+:role/aws-service-role/)?[a-z.0-9-]+\.amazonaws\.com(/\S+)?", text) for text in found
    )
    arns = [text for text in texts(RESOURCES) if text.startswith("arn:")]
    assert arns
    assert all(text.startswith("arn:${AWS::Partition}:") for text in arns), arns


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
