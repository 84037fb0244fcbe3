"""The configuration file of the first HTC-Grid's clients and agents, read for what this grid needs of it."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from htcgrid.errors import ProfileInvalid
from htcgrid.profile import Profile

_PROFILE_FIELDS = {
    "public_api_gateway_url": "api_url",
    "cognito_userpool_client_id": "user_pool_client_id",
    "region": "region",
    "push_url": "push_url",
    "aws_endpoint_url": "aws_endpoint_url",
}
"""From keys of the configuration to fields of a profile. The last two are this grid's own, and may be left out."""

_LEGAL = {
    "public_api_gateway_url": "the address of the sessions API, such as https://abc.execute-api.eu-west-1.amazonaws.com",
    "cognito_userpool_client_id": "the id of the user pool's client",
    "region": "the AWS Region of the user pool, such as eu-west-1",
    "push_url": "the address of the WebSocket API, such as wss://def.execute-api.eu-west-1.amazonaws.com/v1",
    "aws_endpoint_url": "the address of an embedded AWS, such as http://127.0.0.1:4566",
    "username": "a text",
    "password": "a text",
}

USED_KEYS = frozenset(_LEGAL)
"""Keys that say where the grid is and who asks."""

IGNORED_KEYS = frozenset(
    {
        "agent_task_visibility_timeout_sec",
        "agent_use_congestion_control",
        "api_gateway_key",
        "cluster_name",
        "ddb_state_table",
        "dynamodb_results_pull_interval_sec",
        "empty_task_queue_backoff_timeout_sec",
        "enable_xray",
        "error_log_group",
        "error_logging_stream",
        "grid_storage_service",
        "htc_path_logs",
        "lambda_name_cancel_tasks",
        "lambda_name_get_results",
        "lambda_name_submit_tasks",
        "lambda_name_ttl_checker",
        "metrics_are_enabled",
        "metrics_cancel_tasks_lambda_connection_string",
        "metrics_get_results_lambda_connection_string",
        "metrics_grafana_private_ip",
        "metrics_post_agent_connection_string",
        "metrics_pre_agent_connection_string",
        "metrics_submit_tasks_lambda_connection_string",
        "metrics_ttl_checker_lambda_connection_string",
        "private_api_gateway_url",
        "redis_password",
        "redis_url",
        "s3_bucket",
        "s3_kms_key_id",
        "sqs_dlq",
        "sqs_endpoint",
        "sqs_queue",
        "state_table_config",
        "state_table_service",
        "task_input_passed_via_external_storage",
        "task_queue_config",
        "task_queue_service",
        "task_ttl_expiration_offset_sec",
        "task_ttl_refresh_interval_sec",
        "tasks_queue_name",
        "user_pool_id",
        "work_proc_status_pull_interval_sec",
    }
)
"""Keys of the first HTC-Grid that this one has no use for: its clients see neither tables nor queues nor stores."""

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER", "AWS_ENDPOINT_URL")
"""Where the AWS SDKs look for the user pool when it is not AWS's own, the most specific one first."""


@dataclass(frozen=True)
class Configuration:
    """What a configuration says: where the grid is, and who asks. An empty user or password was not given."""

    profile: Profile
    pushed: bool
    """Whether it says where finished tasks are pushed from."""
    username: str
    password: str = field(repr=False)


def read_configuration(config: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Configuration:
    """Read a configuration. Keys that neither grid knows are named in a warning; an empty text counts as absent.

    `aws_endpoint_url`, `username` and `password` are looked for in the environment where the configuration has none:
    in `AWS_ENDPOINT_URL` and its kind, `USERNAME` and `PASSWORD`.

    Raises:
        ProfileInvalid: a key that is needed is missing, or its value is illegal; names the key.
    """
    if not isinstance(config, Mapping):
        raise ProfileInvalid(
            f"the configuration is a {type(config).__name__}: give the content of the file, a dict, to init()"
        )
    if unknown := sorted(map(str, config.keys() - USED_KEYS - IGNORED_KEYS)):
        warnings.warn(f"the configuration has keys that no HTC-Grid knows: {', '.join(unknown)}", stacklevel=3)
    given = {key: config[key] for key in USED_KEYS if config.get(key) not in (None, "")}
    if endpoint := _endpoint(environment):
        given.setdefault("aws_endpoint_url", endpoint)
    return Configuration(
        profile=_profile(given),
        pushed="push_url" in given,
        username=_text(given, "username", environment.get("USERNAME", "")),
        password=_text(given, "password", environment.get("PASSWORD", "")),
    )


def _profile(given: Mapping[str, Any]) -> Profile:
    values = {field: given[key] for key, field in _PROFILE_FIELDS.items() if key in given}
    # A profile has an address for pushes; where the configuration has none, results are asked for and it is not used.
    values.setdefault("push_url", values.get("api_url"))
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        wrong = {str(fault["loc"][0]) for fault in error.errors(include_input=False, include_url=False)}
    key = next(key for key, field in _PROFILE_FIELDS.items() if field in wrong)
    raise _invalid(key, "is missing" if key not in given else "is not legal")


def _text(given: Mapping[str, Any], key: str, default: str) -> str:
    value = given.get(key, default)
    if not isinstance(value, str):
        raise _invalid(key, "is not legal")
    return value


def _invalid(key: str, what: str) -> ProfileInvalid:
    return ProfileInvalid(f"the configuration's {key!r} {what}: it is {_LEGAL[key]}")


def _endpoint(environment: Mapping[str, str]) -> str:
    """The address that the AWS SDKs would use for the user pool; empty for AWS's own."""
    if environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return ""
    return next((environment[name] for name in _ENDPOINT_VARIABLES if environment.get(name)), "")
