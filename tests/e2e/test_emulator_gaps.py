"""The differences from AWS that `htcgrid_local/embedded/aws/` makes up for are still there.

A failure here is good news: MiniStack has closed a gap, and the code that bridges it can go.
"""

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
