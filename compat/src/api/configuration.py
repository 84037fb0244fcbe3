"""The configuration file of the first HTC-Grid's clients and agents, read for what this grid needs of it."""

import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from htcgrid.errors import ProfileInvalid
from htcgrid.profile import Profile, first_fault

_FIELDS = {
    "public_api_gateway_url": "api_url",
    "cognito_userpool_client_id": "user_pool_client_id",
    "region": "region",
    "push_url": "push_url",
    "aws_endpoint_url": "aws_endpoint_url",
}
"""From keys of the configuration to fields of a profile. The last two are this grid's own, and may be left out."""

_WITHOUT_MEANING = frozenset(
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


def has_pushes(config: Mapping[str, Any]) -> bool:
    """Whether a configuration says where finished tasks are pushed from."""
    return "push_url" in config


def profile_of(config: Mapping[str, Any]) -> Profile:
    """Where the grid is, by a configuration. Unknown keys are named in a warning.

    Raises:
        ProfileInvalid: a key that is needed is missing, or its value is illegal; names it.
    """
    unknown = sorted(config.keys() - _FIELDS.keys() - _WITHOUT_MEANING)
    if unknown:
        warnings.warn(f"the configuration has keys that no HTC-Grid knows: {', '.join(unknown)}", stacklevel=3)
    values = {field: config[key] for key, field in _FIELDS.items() if key in config}
    # A profile has an address for pushes; without one it is not used.
    values.setdefault("push_url", values.get("api_url"))
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        field = str(error.errors(include_input=False, include_url=False)[0]["loc"][0])
        key = next((key for key, name in _FIELDS.items() if name == field), field)
        raise ProfileInvalid(f"the configuration is wrong at {key!r}: {first_fault(error)}") from None
