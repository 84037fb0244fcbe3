"""The cache in front of the bucket: only if asked for, for agents alone, and as their settings describe it."""

import json
import re
from typing import Any

from htcgrid_dataplane.store_settings import RedisSettings
from tests.template.stack import RESOURCES, TEMPLATE, references

CACHE = {name: each for name, each in RESOURCES.items() if each.get("Condition") == "HasCache"}


def properties(type_: str) -> dict[str, Any]:
    [found] = [each["Properties"] for each in CACHE.values() if each["Type"] == type_]
    return dict(found)


def test_all_that_is_of_the_cache_is_there_only_if_asked_for() -> None:
    of_elasticache = {name for name, each in RESOURCES.items() if each["Type"].startswith("AWS::ElastiCache::")}
    assert of_elasticache <= set(CACHE)
    assert TEMPLATE["Conditions"]["HasCache"] == {"Fn::Equals": [{"Ref": "DataPlane"}, "s3+redis"]}
    assert TEMPLATE["Parameters"]["DataPlane"]["Default"] == "s3"
    for name, each in RESOURCES.items():
        if name not in CACHE:
            assert not references(each) & set(CACHE), f"{name} refers to what may not be there"


def test_a_cache_without_a_network_is_refused_before_anything_is_created() -> None:
    rule = TEMPLATE["Rules"]["CacheHasNetwork"]
    assert rule["RuleCondition"] == TEMPLATE["Conditions"]["HasCache"]
    refused = {name for each in rule["Assertions"] for name in references(each["Assert"])}
    assert refused == {"VpcId", "SubnetIds", "AgentSecurityGroupId"}


def test_it_is_encrypted_bounded_and_kept_nowhere_else() -> None:
    cache = properties("AWS::ElastiCache::ServerlessCache")
    assert cache["KmsKeyId"] == {"Fn::GetAtt": ["Key", "Arn"]}
    assert references(cache["CacheUsageLimits"]) == {"CacheGigabytes"}
    assert "SnapshotRetentionLimit" not in cache


def test_agents_alone_reach_it_and_by_iam_alone() -> None:
    group = properties("AWS::EC2::SecurityGroup")
    assert [references(each) for each in group["SecurityGroupIngress"]] == [{"AgentSecurityGroupId"}]
    assert [each["CidrIp"] for each in group["SecurityGroupEgress"]] == ["127.0.0.1/32"]
    assert properties("AWS::ElastiCache::UserGroup")["UserIds"] == [{"Ref": "CacheUser"}]
    user = properties("AWS::ElastiCache::User")
    assert user["AuthenticationMode"] == {"Type": "iam"}
    assert user["UserId"] == user["UserName"]
    rights = user["AccessString"].split()
    assert rights[:3] == ["on", "~*", "-@all"]
    assert rights.index("-@dangerous") < rights.index("+info")
    assert not {"+@all", "+@dangerous", "+@admin", "+@scripting", "+eval", "+flushall"} & set(rights)
    policy = properties("AWS::IAM::Policy")
    assert policy["Roles"] == [{"Ref": "AgentRole"}]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert statement["Action"] == "elasticache:Connect"
    assert references(statement["Resource"]) == {"Cache", "CacheUser"}


def test_what_the_stack_says_of_it_is_what_an_agent_takes() -> None:
    described = TEMPLATE["Outputs"]["StoreSettings"]["Value"]["Fn::If"]
    assert described[0] == "HasCache"
    assert json.loads(described[2]) == {}
    text = re.sub(r"\$\{[\w.]+Port\}", "6379", described[1]["Fn::Sub"])
    settings = RedisSettings.model_validate(json.loads(re.sub(r"\$\{([\w.]+)\}", r"\1", text)))
    assert (settings.auth, settings.cluster, settings.serverless) == ("iam", True, True)
    assert settings.url.startswith("rediss://")
