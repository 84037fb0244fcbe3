"""What a grid's file may say, and what is said of one that is wrong."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from htcgrid_deploy.config import parse_config, read_config
from htcgrid_deploy.config.first_grid import REPLACED
from htcgrid_deploy.config.schema import schema_text
from htcgrid_deploy.errors import ConfigInvalid

ROOT = Path(__file__).resolve().parents[2]

FIRST_GRID: dict[str, Any] = {
    "region": "eu-west-1",
    "project_name": "main",
    "grid_storage_service": "REDIS",
    "max_htc_agents": 100,
    "min_htc_agents": 1,
    "dynamodb_default_read_capacity": 10,
    "dynamodb_default_write_capacity": 10,
    "graceful_termination_delay": 300,
    "eks_worker_groups": [
        {
            "name": "worker-small-spot",
            "override_instance_types": ["m5.xlarge", "m4.xlarge", "m5d.xlarge", "m5a.xlarge"],
            "spot_instance_pools": 0,
            "asg_min_size": 0,
            "asg_max_size": 3,
            "asg_desired_capacity": 1,
            "on_demand_base_capacity": 0,
        }
    ],
    "agent_configuration": {
        "lambda": {
            "minCPU": "800",
            "maxCPU": "900",
            "minMemory": "1200",
            "maxMemory": "1900",
            "location": "s3://main-lambda-unit-htc-grid/lambda.zip",
            "runtime": "provided",
            "layer_version": 1,
        }
    },
    "enable_private_subnet": True,
    "vpc_cidr_block_public": ["10.0.192.0/24", "10.0.193.0/24", "10.0.194.0/24"],
    "vpc_cidr_block_private": ["10.0.0.0/18", "10.0.64.0/18", "10.0.128.0/18"],
    "input_role": [
        {"rolearn": "arn:aws:iam::123456789012:role/Admin", "username": "lambda", "groups": ["system:masters"]}
    ],
}
"""A file as the first HTC-Grid generates it."""

LARGE: dict[str, Any] = {
    "partitions": {
        "large": {
            "lambda": {"runtime": "python", "handler": "app.handler", "minMemory": 16_384},
            "grid_storage_service": "S3+REDIS",
            "max_htc_agents": 20,
            "worker_group": "big",
        },
        "small": {"retry_in": {"memory": "large", "timeout": "default"}, "min_htc_agents": 2},
    },
    "eks_worker_groups": [{"name": "big", "override_instance_types": ["r6i.4xlarge"]}],
    "users": [{"name": "trader", "email": "trader@example.com"}],
    "budgets": [{"name": "grid", "monthly_usd": 500, "notify": ["desk@example.com"]}],
    "tags": {"desk": "rates"},
}


def test_the_first_grids_file_is_understood() -> None:
    config, notices = parse_config(json.dumps(FIRST_GRID), "grid_config.json")
    function = config.function_of("default")
    assert (function.minCPU, function.maxCPU, function.minMemory, function.maxMemory) == (800, 900, 1200, 1900)
    assert config.agents_of("default") == (1, 100)
    assert config.storage_of("default") == "REDIS"
    assert config.eks_worker_groups[0].asg_desired_capacity == 1
    assert notices == (
        "agent_configuration.lambda.layer_version means nothing here: a function is known by its digest",
    )


def test_every_key_of_before_that_means_nothing_is_named_with_what_took_its_place() -> None:
    config, notices = parse_config(json.dumps(dict.fromkeys(REPLACED, "anything")), "grid_config.json")
    assert [notice.split(" ")[0] for notice in notices] == list(REPLACED)
    assert config == parse_config("{}", "grid_config.json")[0]


def test_partitions_have_what_the_top_of_the_file_says_unless_they_say_otherwise() -> None:
    config, _ = parse_config(json.dumps(LARGE), "grid_config.json")
    assert list(config.all_partitions) == ["default", "large", "small"]
    assert [config.agents_of(name) for name in config.all_partitions] == [(0, 100), (0, 20), (2, 100)]
    assert [config.storage_of(name) for name in config.all_partitions] == ["S3", "S3+REDIS", "S3"]
    assert config.function_of("large").handler_name == "app.handler"
    assert config.function_of("small") == config.agent_configuration.function


def test_a_handler_may_be_written_as_the_first_grid_did() -> None:
    function = {"lambda_handler_file_name": "app.py", "lambda_handler_function_name": "run"}
    config, _ = parse_config(json.dumps({"agent_configuration": {"lambda": function}}), "grid_config.json")
    assert config.function_of("default").handler_name == "app.run"


def _function(**values: object) -> dict[str, Any]:
    return {"agent_configuration": {"lambda": values}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"regoin": "eu-west-1"}, "regoin: there is no such key; did you mean region?"),
        ({"region": "Ireland"}, "region: "),
        ({"project_name": "a/b"}, "project_name: "),
        (
            {"grid_storage_service": "FTP"},
            "grid_storage_service: Input should be 'S3', 'REDIS', 'S3+REDIS', 'EFS' or 'FSX'",
        ),
        ({"min_htc_agents": 5, "max_htc_agents": 4}, "max_htc_agents must not be below min_htc_agents"),
        ({"min_htc_agents": -1}, "min_htc_agents: "),
        ({"max_htc_agents": True}, "max_htc_agents: "),
        ({"max_htc_agents": "100"}, "max_htc_agents: "),
        ({"dynamodb_default_read_capacity": 10}, "go together"),
        ({"enable_private_subnet": False}, "enable_private_subnet must be true"),
        ({"vpc_cidr_block_private": ["10.0.0.0/18"]}, "must have three ranges"),
        ({"vpc_cidr_block_private": ["10.0.0.1/18"] * 3}, "vpc_cidr_block_private.0: must be an IPv4 address range"),
        ({"vpc_cidr_block_public": ["10.0.0.0/8"]}, "vpc_cidr_block_public.0: must be a range of /16 to /28"),
        (_function(minCPU="many"), "agent_configuration.lambda.minCPU: "),
        (_function(minCPU=500, maxCPU=400), "agent_configuration.lambda: maxCPU must not be below minCPU"),
        (_function(runtime="cobol"), "agent_configuration.lambda.runtime: "),
        (_function(location="http://bucket/key"), "agent_configuration.lambda.location: "),
        (
            _function(handler="a.b", lambda_handler_file_name="a", lambda_handler_function_name="b"),
            "give either handler",
        ),
        (_function(lambda_handler_file_name="a"), "go together"),
        (_function(memory=1), "agent_configuration.lambda.memory: there is no such key"),
        ({"eks_worker_groups": [{"name": "a"}]}, "eks_worker_groups.0.override_instance_types: Field required"),
        (
            {"eks_worker_groups": [{"name": "a", "override_instance_types": ["m5.large"], "asg_desired_capacity": 9}]},
            "eks_worker_groups.0: asg_desired_capacity must be from asg_min_size to asg_max_size",
        ),
        (
            {"eks_worker_groups": [{"name": "a", "override_instance_types": ["m5.large"]}] * 2},
            "two pools have the same name",
        ),
        ({"partitions": {"default": {}}}, "partitions.default: describe it by the keys at the top of the file"),
        ({"partitions": {"Big": {}}}, "partitions.Big: "),
        ({"partitions": {"a": {"worker_group": "none"}}}, "partitions.a.worker_group: eks_worker_groups has no 'none'"),
        ({"partitions": {"a": {"retry_in": {"memory": "b"}}}}, "partitions.a.retry_in: there is no partition 'b'"),
        ({"partitions": {"a": {"retry_in": {"memory": "a"}}}}, "partitions.a.retry_in: must name another partition"),
        ({"partitions": {"a": {"retry_in": {"crash": "default"}}}}, "partitions.a.retry_in.crash: "),
        (
            {"partitions": {"a": {"min_htc_agents": 101}}},
            "partitions.a: max_htc_agents must not be below min_htc_agents",
        ),
        ({"input_role": [{"rolearn": "Admin"}]}, "input_role.0.rolearn: "),
        (
            {"input_role": [{"rolearn": "arn:aws:iam::123456789012:role/A", "groups": ["viewers"]}]},
            'input_role.0: groups must be ["system:masters"]',
        ),
        ({"network": {"vpc_id": "vpc-12345678"}}, "network: vpc_id and subnet_ids go together"),
        ({"users": [{"name": ""}]}, "users.0.name: "),
        ({"budgets": [{"name": "a", "monthly_usd": 0, "notify": []}]}, "budgets.0.monthly_usd: "),
        ({"tags": {"aws:x": "y"}}, "tags.aws:x: must not begin with aws:"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(content: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigInvalid) as refusal:
        parse_config(json.dumps(content), "grid_config.json")
    assert str(refusal.value).startswith("grid_config.json describes no grid:\n  ")
    assert said in str(refusal.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigInvalid) as refusal:
        parse_config(json.dumps({"region": "x", "max_htc_agents": 0, "nodes": 1}), "grid_config.json")
    assert [line.split(":")[0] for line in str(refusal.value).splitlines()[1:]] == [
        "  region",
        "  max_htc_agents",
        "  nodes",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("[1", "is not JSON"),
        ("[]", "must be a JSON object"),
        ('{"region": "eu-west-1", "region": "eu-west-2"}', "the key 'region' occurs twice in one object"),
        ('{"tags": {"a": "1", "a": "2"}}', "the key 'a' occurs twice"),
    ],
)
def test_what_is_no_object_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=said):
        parse_config(text, "grid_config.json")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"absent.json cannot be read: No such file"):
        read_config(tmp_path / "absent.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigInvalid, match="it is not UTF-8"):
        read_config(tmp_path / "binary.json")


def test_the_schema_is_in_step_and_takes_what_the_command_takes() -> None:
    text = schema_text()
    assert (ROOT / "docs/grid_config.schema.json").read_text(encoding="utf-8") == text
    validator = jsonschema.Draft202012Validator(json.loads(text))
    validator.validate(LARGE)
    without_old_keys = json.loads(json.dumps(FIRST_GRID))
    del without_old_keys["agent_configuration"]["lambda"]["layer_version"]
    validator.validate(without_old_keys | dict.fromkeys(REPLACED, 1))
    assert not validator.is_valid({"regoin": "eu-west-1"})
    assert not validator.is_valid(_function(minCPU=1))
