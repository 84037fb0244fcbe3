"""partition.yaml: the task queues of a partition, and its registration."""

import re
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from htcgrid_controlplane.rules import partition as rules
from htcgrid_deploy.config import fields
from htcgrid_events import SessionOptions
from tests.template.stack import PARTITION, TASK_QUEUES, TEMPLATE, of_type, references

RESOURCES: dict[str, dict[str, Any]] = PARTITION["Resources"]
QUEUES = {name: each for name, each in RESOURCES.items() if each["Type"] == "AWS::SQS::Queue"}


def test_a_partition_has_a_queue_for_each_priority_and_puts_it_out() -> None:
    assert list(QUEUES) == ["TaskQueueHigh", "TaskQueueNormal", "TaskQueueLow"]
    assert {name: each["Value"] for name, each in PARTITION["Outputs"].items()} == {
        f"{name}Url": {"Ref": name} for name in QUEUES
    }
    registered = RESOURCES["Registration"]["Properties"]["QueueUrls"]
    assert registered == {name.removeprefix("TaskQueue").lower(): {"Ref": name} for name in QUEUES}


@pytest.mark.parametrize("kind", [rules.PartitionName, fields.PartitionName])
def test_every_name_that_it_takes_can_be_registered_described_and_given_by_sessions(kind: Any) -> None:
    pattern = PARTITION["Parameters"]["Name"]["AllowedPattern"]
    for name in ("a", "large", "gpu-2", "a" * 32):
        assert re.fullmatch(pattern, name)
        assert TypeAdapter(kind).validate_python(name) == SessionOptions(partition=name).partition
    for name in ("9a", "-a", "a-", "A", "a_b", "", "a" * 33):
        assert not re.fullmatch(pattern, name)
        with pytest.raises(ValidationError):
            TypeAdapter(kind).validate_python(name)


def test_its_messages_are_encrypted_kept_for_long_and_end_where_the_grid_looks_after_them() -> None:
    for queue in QUEUES.values():
        assert queue["Properties"] == {
            "KmsMasterKeyId": {"Ref": "KeyArn"},
            "KmsDataKeyReusePeriodSeconds": 3600,
            "MessageRetentionPeriod": 14 * 86_400,
            "ReceiveMessageWaitTimeSeconds": 20,
            "VisibilityTimeout": 60,
            "RedrivePolicy": {"deadLetterTargetArn": {"Ref": "UndeliverableQueueArn"}, "maxReceiveCount": 100},
        }


def test_its_queues_refuse_plain_http() -> None:
    policy = RESOURCES["QueuePolicy"]["Properties"]
    assert policy["Queues"] == [{"Ref": name} for name in QUEUES]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "sqs:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_it_is_registered_when_its_queues_are_ready_and_removed_before_they_are() -> None:
    registration = RESOURCES["Registration"]
    assert (registration["Type"], registration["DependsOn"]) == ("Custom::Partition", "QueuePolicy")
    assert references(registration["Properties"]) >= set(QUEUES) | {"RegistryFunctionArn", "Name"}


def test_the_grid_makes_the_partition_default_from_it_and_puts_out_what_others_need() -> None:
    [stack] = of_type("AWS::Serverless::Application").values()
    assert stack["Location"] == "partition.yaml"
    assert set(stack["Parameters"]) == set(PARTITION["Parameters"])
    assert stack["Parameters"]["Name"] == "default"
    outputs = {name: each["Value"] for name, each in TEMPLATE["Outputs"].items()}
    for parameter, output in {
        "KeyArn": "KeyArn",
        "UndeliverableQueueArn": "UndeliverableQueueArn",
        "RegistryFunctionArn": "PartitionRegistryFunctionArn",
    }.items():
        assert outputs[output] == stack["Parameters"][parameter]
        assert f"the output {output} of the grid's stack" in PARTITION["Parameters"][parameter]["Description"]


def test_the_rights_of_the_grid_reach_the_queues_of_every_partition() -> None:
    # CloudFormation names a queue after its stack and its resource, and a nested stack after the one around it.
    assert all("QueueName" not in queue["Properties"] for queue in QUEUES.values())
    pattern = TASK_QUEUES["Fn::Sub"].removesuffix("*").rpartition("}:")[2].split("*")
    for queue in QUEUES:
        for stack in ("${AWS::StackName}-Default-1A2B3C", "${AWS::StackName}-large"):
            name = f"{stack}-{queue}-4D5E6F"
            assert name.startswith(pattern[0])
            assert pattern[1] in name
