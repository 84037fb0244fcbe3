"""The differences from AWS that `htcgrid_local/embedded/aws/` makes up for are still there.

A failure here is good news: MiniStack has closed a gap, and the code that bridges it can go.
"""

import json
import subprocess

import pytest

from htcgrid_local import find_project

pytestmark = pytest.mark.grid

PROJECT = find_project()


def in_emulator(program: str) -> str:
    """What a program prints in MiniStack's environment."""
    return subprocess.run(
        [PROJECT.emulator_python, "-c", program], check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


def test_timeouts_are_not_evaluated() -> None:
    source = in_emulator(
        "import inspect; from ministack.services import stepfunctions as states; "
        "print(inspect.getsource(states._invoke_with_callback))"
    )
    assert 'timeout = state_def.get("TimeoutSeconds", 99999)\n    if not evt.wait(timeout=timeout)' in source


@pytest.mark.parametrize(
    ("service", "target", "named"),
    [
        ("sqs", "AmazonSQS.SendMessageBatch", "sqs:SendMessageBatch"),
        ("dynamodb", "DynamoDB_20120810.BatchExecuteStatement", "dynamodb:BatchExecuteStatement"),
    ],
)
def test_batches_are_authorised_under_their_own_names(service: str, target: str, named: str) -> None:
    program = (
        "from ministack.core.iam_actions import extract_iam_action as action; "
        f"print(action({service!r}, 'POST', '/', {{'x-amz-target': {target!r}}}, b'{{}}', {{}}))"
    )
    assert in_emulator(program) == named


_ATTRIBUTES = """
import json
from ministack.core import iam_actions
{bridge}
def attributes(*texts):
    body = json.dumps({{"Statements": [{{"Statement": text}} for text in texts]}}).encode()
    print(iam_actions.dynamodb_service_context(body).get("dynamodb:Attributes"))
attributes('UPDATE "t" SET a = b + 1 SET c.d = ? REMOVE e WHERE "f" = ? AND g <= ? RETURNING ALL NEW *')
attributes('SELECT a, b.c FROM "t" WHERE d = ?', "INSERT INTO \\"t\\" VALUE {{'e': ?}}")
"""


def test_attributes_of_statements_are_no_condition_key() -> None:
    assert in_emulator(_ATTRIBUTES.format(bridge="")).splitlines() == ["None", "None"]


def test_the_bridge_names_the_attributes_of_statements() -> None:
    folder = str(PROJECT.root / "local/src/htcgrid_local/embedded")
    bridge = f"import sys; sys.path.insert(0, {folder!r}); from aws import permissions; "
    one, other = in_emulator(_ATTRIBUTES.format(bridge=f"{bridge}permissions.authorise_as_aws_does()")).splitlines()
    assert (one, other) == (str(list("abcefg")), str(list("abde")))


_NAMESPACE = """
import json
from ministack.core import iam_actions
{bridge}
body = json.dumps({{"Namespace": "HTCGrid", "MetricData": []}}).encode()
for service, action in (("monitoring", "cloudwatch:PutMetricData"), ("sqs", "sqs:SendMessage")):
    print(iam_actions.request_tag_context(service, action, body, {{}}).get("cloudwatch:namespace"))
"""


def test_the_namespace_of_metrics_is_no_condition_key_without_the_bridge() -> None:
    assert in_emulator(_NAMESPACE.format(bridge="")).splitlines() == ["None", "None"]
    folder = str(PROJECT.root / "local/src/htcgrid_local/embedded")
    bridge = f"import sys; sys.path.insert(0, {folder!r}); from aws import permissions; "
    assert in_emulator(_NAMESPACE.format(bridge=f"{bridge}permissions.authorise_as_aws_does()")).splitlines() == [
        "HTCGrid",
        "None",
    ]


_METRICS = """
import json, time
from ministack.services import cloudwatch
{bridge}
now = time.time()
for minute, value in ((2, 1), (1, 2)):
    datum = {{"MetricName": "m", "Value": value, "Timestamp": now - 60 * minute}}
    cloudwatch._put_metric_data({{}}, {{"Namespace": "n", "MetricData": [datum]}}, False, True)
stat = {{"Metric": {{"Namespace": "n", "MetricName": "m"}}, "Period": 60, "Stat": "Maximum"}}
for order in ("TimestampDescending", "TimestampAscending"):
    for is_cbor in (False, True):
        queries = [{{"Id": "a", "MetricStat": stat}}]
        request = {{"MetricDataQueries": queries, "StartTime": now - 600, "EndTime": now, "ScanBy": order}}
        _, _, body = cloudwatch._get_metric_data({{}}, request, is_cbor, not is_cbor)
        if is_cbor:
            import cbor2
        answer = cbor2.loads(body) if is_cbor else json.loads(body)
        print(answer["MetricDataResults"][0]["Values"])
"""


def test_metrics_come_oldest_first_without_the_bridge() -> None:
    assert in_emulator(_METRICS.format(bridge="")).splitlines() == ["[1.0, 2.0]"] * 4
    folder = str(PROJECT.root / "local/src/htcgrid_local/embedded")
    bridge = f"import sys; sys.path.insert(0, {folder!r}); from aws import metrics; metrics.give_newest_first()"
    found = in_emulator(_METRICS.format(bridge=bridge)).splitlines()
    assert found == ["[2.0, 1.0]"] * 2 + ["[1.0, 2.0]"] * 2


def test_errors_of_functions_have_one_name() -> None:
    source = in_emulator(
        "import inspect; from ministack.services import lambda_svc; "
        "print(inspect.getsource(lambda_svc._execute_function_warm))"
    )
    assert 'error_type = "Runtime.HandlerError"' in source


def test_archives_are_unknown_to_its_cloudformation() -> None:
    program = (
        "from ministack.services.cloudformation.provisioners import _RESOURCE_HANDLERS as known; "
        "print('AWS::Events::Archive' in known)"
    )
    assert in_emulator(program) == "False"


def test_answers_of_functions_wait_for_lines_of_their_log() -> None:
    source = in_emulator(
        "import inspect; from ministack.core.lambda_runtime import Worker; "
        "print(inspect.getsource(Worker._drain_stderr_bounded))"
    )
    assert "first_line_wait: float = 0.050" in source


def test_a_value_that_an_update_names_twice_is_one_value_afterwards() -> None:
    program = (
        "from ministack.services.dynamodb import _apply_update_expression as update; "
        "made, _ = update({}, 'SET a = :map, b = :map', {':map': {'M': {}}}, {}); "
        "print(update(made, 'SET a.x = :one', {':one': {'N': '1'}}, {})[0])"
    )
    assert in_emulator(program) == "{'a': {'M': {'x': {'N': '1'}}}, 'b': {'M': {'x': {'N': '1'}}}}"


def test_long_polls_look_ten_times_a_second_and_mappings_rest_after_a_look_in_vain() -> None:
    source = in_emulator(
        "import inspect; from ministack.services import lambda_svc, sqs; "
        "print(inspect.getsource(sqs._act_receive_message), lambda_svc._ESM_IDLE_WAKE_GAP_SECONDS)"
    )
    assert "await asyncio.sleep(min(0.1, " in source
    assert source.endswith("0.05")


def test_each_text_of_a_statement_is_taken_apart_anew() -> None:
    program = (
        "from ministack.services._dynamodb_keywords import _tokenize as tokenize; "
        "print(tokenize('SELECT * FROM a') is tokenize('SELECT * FROM a'))"
    )
    assert in_emulator(program) == "False"


_TABLE = """
import json
from ministack.services import dynamodb as db
{bridge}
def call(operation, **request):
    status, _, body = getattr(db, operation)(request)
    print(status, json.loads(body).get("message", json.dumps(json.loads(body).get("Responses"))))
db._create_table({{
    "TableName": "rows", "BillingMode": "PAY_PER_REQUEST",
    "KeySchema": [{{"AttributeName": "p", "KeyType": "HASH"}}, {{"AttributeName": "s", "KeyType": "RANGE"}}],
    "AttributeDefinitions": [{{"AttributeName": n, "AttributeType": "S"}} for n in "ps"],
}})
for sort in "xyz":
    db._put_item({{"TableName": "rows", "Item": {{"p": {{"S": "p"}}, "s": {{"S": sort}}, "a": {{"S": "0"}}}}}})
def update(sort, more=""):
    text = f'UPDATE "rows" SET a = ? {{more}} WHERE p = ? AND s = ?'
    return {{"Statement": text, "Parameters": [{{"S": "1"}}, {{"S": "p"}}, {{"S": sort}}]}}
def insert(sort):
    text = "INSERT INTO \\"rows\\" VALUE {{'p': ?, 's': ?}}"
    return {{"Statement": text, "Parameters": [{{"S": "p"}}, {{"S": sort}}]}}
call("_batch_execute_statement", Statements=[update("x"), update("x")])
print(db._get_item({{"TableName": "rows", "Key": {{"p": {{"S": "p"}}, "s": {{"S": "x"}}}}}})[2].decode().count('"0"'))
call("_batch_execute_statement", Statements=[insert("n"), insert("n")])
call("_batch_execute_statement", Statements=[update("x"), update("y"), insert("m"), update("none")])
call("_batch_execute_statement", Statements=[update("z", "REMOVE a"), update("y")])
key = {{"p": {{"S": "p"}}, "s": {{"S": "z"}}}}
for expression in ("SET a = :a REMOVE a", "SET #a = :a REMOVE #b", "SET a = :a, b = :a REMOVE c", "ADD b :a REMOVE b"):
    names = {{name: "a" for name in ("#a", "#b") if name in expression}}
    more = {{"ExpressionAttributeNames": names}} if names else {{}}
    call("_update_item", TableName="rows", Key=key, UpdateExpression=expression,
         ExpressionAttributeValues={{":a": {{"S": "2"}}}}, **more)
"""
_BRIDGE = "import sys; sys.path.insert(0, {folder!r}); from aws import refusals; refusals.refuse_as_dynamodb_does()"


def test_a_row_named_twice_and_paths_that_overlap_are_not_refused() -> None:
    lines = in_emulator(_TABLE.format(bridge="")).splitlines()
    assert lines[0] == '200 [{"TableName": "rows"}, {"TableName": "rows"}]'
    assert not any("duplicates" in line or "overlap" in line for line in lines)


def test_the_bridge_refuses_what_dynamodb_refuses() -> None:
    folder = str(PROJECT.root / "local/src/htcgrid_local/embedded")
    lines = in_emulator(_TABLE.format(bridge=_BRIDGE.format(folder=folder))).splitlines()
    duplicates = "400 Provided list of item keys contains duplicates"
    # The row is as it was: none of the statements has run.
    assert lines[:3] == [duplicates, "1", duplicates]
    assert lines[3].startswith("200")
    assert lines[3].count("Error") == 1
    one, other = json.loads(lines[4].removeprefix("200 "))
    assert (one["Error"]["Code"], "Error" in other) == ("ValidationError", False)
    overlap = "Invalid UpdateExpression: Two document paths overlap with each other"
    assert [line.startswith(f"400 {overlap}") for line in lines[5:]] == [True, True, False, True]
