"""The stack can be deployed many times, observed, and taken away without losing what it holds."""

import re

import pytest

from htcgrid_controlplane.settings import Settings
from tests.template.stack import RESOURCES, ROOT, TEMPLATE, names, of_type, references, rendered

KEPT = {"Fn::If": ["RetainsData", "Retain", "Delete"]}
STATEFUL = ("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::Cognito::UserPool", "AWS::EFS::FileSystem")
NAME_OF = {
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::Cognito::UserPool": "UserPoolName",
    "AWS::Cognito::UserPoolClient": "ClientName",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::ElastiCache::ReplicationGroup": "ReplicationGroupId",
    "AWS::ElastiCache::ServerlessCache": "ServerlessCacheName",
    "AWS::ElastiCache::User": "UserId",
    "AWS::ElastiCache::UserGroup": "UserGroupId",
    "AWS::Events::Archive": "ArchiveName",
    "AWS::Events::EventBus": "Name",
    "AWS::Events::Rule": "Name",
    "AWS::IAM::Role": "RoleName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::Serverless::Function": "FunctionName",
    "AWS::Serverless::LayerVersion": "LayerName",
    "AWS::Serverless::StateMachine": "Name",
    "AWS::Scheduler::Schedule": "Name",
}
PARAMETERS = TEMPLATE["Parameters"]


@pytest.mark.parametrize("name", RESOURCES)
def test_a_name_is_made_by_cloudformation_or_from_the_stacks(name: str) -> None:
    resource = RESOURCES[name]
    given = resource.get("Properties", {}).get(NAME_OF.get(resource["Type"], ""))
    assert given is None or "AWS::StackName" in references(given)


@pytest.mark.parametrize("name", names(*STATEFUL))
def test_what_holds_data_is_kept_unless_told_otherwise(name: str) -> None:
    assert RESOURCES[name]["DeletionPolicy"] == KEPT
    assert RESOURCES[name]["UpdateReplacePolicy"] == "Retain"
    assert TEMPLATE["Conditions"]["RetainsData"] == {"Fn::Equals": [{"Ref": "RetainData"}, "true"]}
    assert PARAMETERS["RetainData"]["Default"] == "true"


def test_the_key_outlives_what_it_encrypts() -> None:
    assert RESOURCES["Key"]["DeletionPolicy"].startswith("Retain")
    assert RESOURCES["Key"]["UpdateReplacePolicy"] == "Retain"


def test_sessions_and_chunks_can_be_recovered_to_a_point_in_time() -> None:
    for name in ("SessionsTable", "ChunksTable", "DeadLettersTable", "TenantsTable", "DataTable"):
        recovery = of_type("AWS::DynamoDB::Table")[name]["PointInTimeRecoverySpecification"]
        assert recovery == {"PointInTimeRecoveryEnabled": True}


def test_no_index_grows_with_finished_work() -> None:
    for table in of_type("AWS::DynamoDB::Table").values():
        assert "LocalSecondaryIndexes" not in table
        for index in table.get("GlobalSecondaryIndexes", []):
            # Chunks have the sparse index of leases only; a session is written a handful of times, whatever it holds.
            assert "lease" in index["IndexName"] or "session" in index["IndexName"], index["IndexName"]


def dead_letter_queues() -> set[str]:
    return (
        {
            target
            for queue in of_type("AWS::SQS::Queue").values()
            if "RedrivePolicy" in queue
            for target in references(queue["RedrivePolicy"])
        }
        | {
            target
            for stack in of_type("AWS::Serverless::Application").values()
            for target in references(stack["Parameters"]) & set(of_type("AWS::SQS::Queue"))
        }
        | {
            target
            for bus in of_type("AWS::Events::EventBus").values()
            for target in references(bus.get("DeadLetterConfig", {}))
        }
    )


@pytest.mark.parametrize("name", names("AWS::SQS::Queue"))
def test_a_queue_has_a_dead_letter_queue_or_is_one(name: str) -> None:
    queue = of_type("AWS::SQS::Queue")[name]
    assert ("RedrivePolicy" in queue) is not (name in dead_letter_queues())
    assert queue["MessageRetentionPeriod"] == 14 * 86_400
    if "RedrivePolicy" in queue:
        assert queue["RedrivePolicy"]["maxReceiveCount"] >= 10


def watched(metric: str) -> set[str]:
    """What alarms watch by a metric, each telling its runbook and the alarm topic."""
    found = set()
    for alarm in of_type("AWS::CloudWatch::Alarm").values():
        if alarm.get("MetricName") == metric:
            assert "docs/runbooks/" in alarm["AlarmDescription"]
            assert references(alarm["AlarmActions"]) >= {"AlarmTopicArn"} or "HasAlarmTopic" in str(alarm)
            assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (0, "GreaterThanThreshold")
            assert alarm["TreatMissingData"] == "notBreaching"
            found |= references(alarm["Dimensions"])
    return found


def test_an_alarm_watches_every_dead_letter_queue_and_every_workflow() -> None:
    assert watched("ApproximateNumberOfMessagesVisible") == dead_letter_queues()
    machines = of_type("AWS::Serverless::StateMachine")
    assert watched("ExecutionsFailed") == set(machines)
    # A standard execution of these may take as long as it needs; an express one has 5 minutes.
    assert watched("ExecutionsTimedOut") == {name for name, each in machines.items() if each["Type"] == "EXPRESS"}


def test_an_alarm_watches_the_function_that_a_schedule_calls() -> None:
    called = {
        name
        for schedule in of_type("AWS::Scheduler::Schedule").values()
        for name in references(schedule["Target"]["Arn"])
        if name in of_type("AWS::Serverless::Function")
    }
    assert watched("Errors") == called == {"ScalingFunction"}


NO_ERRORS = {
    "SessionsFailed": "a verdict of a user's tasks",
    "ConnectionsRefused": "what strangers try",
    "RequestsAboveQuota": "what tenants try",
}
"""Metrics whose names sound like errors of the grid."""


def test_an_alarm_watches_every_metric_of_an_error() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("functions", "controlplane/src")
        for path in sorted((ROOT / folder).rglob("*.py"))
    )
    counted = set(re.findall(r"""count\(\s*f?"(\w+)\"""", code))
    assert counted >= {"MessagesRefused", "EventsRefused", "PushesFailed", "RecoveriesFailed", "TasksSubmitted"}
    errors = {name for name in counted if re.search("Refused|Failed|Recounted|Undeliverable|Above", name)}
    assert errors >= NO_ERRORS.keys() - {"SessionsFailed"}
    for metric in errors - NO_ERRORS.keys():
        assert watched(metric) is not None
        assert metric in {alarm.get("MetricName") for alarm in of_type("AWS::CloudWatch::Alarm").values()}, metric


@pytest.mark.parametrize("name", names("AWS::Serverless::Function"))
def test_a_function_has_its_own_rights_and_its_own_log(name: str) -> None:
    functions = of_type("AWS::Serverless::Function")
    function = functions[name]
    # A role that SAM made would have managed policies: for one, to take messages of every queue of the account.
    [role] = references(function["Role"])
    assert [other for other, each in functions.items() if each["Role"] == function["Role"]] == [name]
    assert len(rendered()["Resources"][role]["Properties"]["Policies"]) == 1
    assert "Policies" not in function
    group = function["LoggingConfig"]["LogGroup"]["Ref"]
    assert group in names("AWS::Logs::LogGroup")
    assert [other for other, each in functions.items() if each["LoggingConfig"]["LogGroup"] == {"Ref": group}] == [name]


@pytest.mark.parametrize("name", names("AWS::Serverless::StateMachine"))
def test_a_workflow_has_its_own_rights_and_logs_no_payload(name: str) -> None:
    workflow = of_type("AWS::Serverless::StateMachine")[name]
    assert workflow["Role"] == {"Fn::GetAtt": [f"{name}WorkflowRole", "Arn"]}
    assert "Policies" not in workflow
    assert "Events" not in workflow, "SAM would make a role that any account's rules may take"
    assert workflow["Logging"]["IncludeExecutionData"] is False
    assert references(workflow["Logging"]["Destinations"]) <= set(names("AWS::Logs::LogGroup"))


def test_every_log_group_is_written_by_somebody() -> None:
    users = {name: each for name, each in RESOURCES.items() if each["Type"] != "AWS::Logs::LogGroup"}
    assert set(names("AWS::Logs::LogGroup")) <= references(list(users.values()))


def test_messages_stay_hidden_for_six_times_as_long_as_their_function_may_take() -> None:
    timeout = TEMPLATE["Globals"]["Function"]["Timeout"]
    for function in of_type("AWS::Serverless::Function").values():
        for event in function.get("Events", {}).values():
            if event["Type"] == "SQS":
                [queue] = references(event["Properties"]["Queue"])
                hidden = of_type("AWS::SQS::Queue")[queue]["VisibilityTimeout"]
                assert hidden >= 6 * function.get("Timeout", timeout)
                assert event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_functions_are_told_exactly_what_their_settings_read() -> None:
    variables = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
    told = {name.removeprefix("HTCGRID_").lower() for name in variables if name.startswith("HTCGRID_")}
    of_data_planes = {"store", "store_settings", "former_stores"}
    assert told == set(Settings.model_fields) - of_data_planes


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_has_a_default_and_says_what_is_legal(name: str) -> None:
    parameter = PARAMETERS[name]
    assert "Default" in parameter
    assert parameter["Description"].endswith(".")
    if parameter["Type"] == "Number":
        legal = parameter.get("AllowedValues")
        assert legal or parameter["MinValue"] <= parameter["Default"] <= parameter["MaxValue"]
    if "AllowedValues" in parameter:
        assert parameter["Default"] in parameter["AllowedValues"]
    elif parameter["Type"] == "String":
        assert parameter["Default"] == "", "a free text is one that may be left out"


def test_every_parameter_has_its_place_on_the_console_and_is_used() -> None:
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    assert sorted(shown) == sorted(PARAMETERS)
    used = references([TEMPLATE["Resources"], TEMPLATE["Conditions"], TEMPLATE["Globals"]])
    assert set(PARAMETERS) <= used


def test_the_stack_gives_what_agents_and_clients_need() -> None:
    outputs = TEMPLATE["Outputs"]
    assert set(outputs) >= {
        "ApiUrl", "PushUrl", "UserPoolId", "UserPoolClientId",
        "SessionsTable", "ChunksTable", "ConnectionsTable", "DataBucket",
        "TaskQueueHighUrl", "TaskQueueNormalUrl", "TaskQueueLowUrl", "TaskEventsQueueUrl",
        "PartitionsTable", "ScalingFunctionName",
        "EventBusName", "NotificationTopicArn", "AgentRoleArn", "SessionLifecycleArn", "KeyArn",
    }  # fmt: skip
    for name, output in outputs.items():
        assert re.fullmatch(r"[A-Z].*\.", output["Description"]), name
