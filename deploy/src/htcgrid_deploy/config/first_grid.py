"""The keys of the first HTC-Grid's files that mean nothing here, with what took their place."""

from collections.abc import Mapping
from typing import Final

_METRICS: Final = "metrics go to CloudWatch and Prometheus"
_NAMES: Final = "names are made from project_name"
_LEASE: Final = "chunks have leases, whose length is the chart's value agent.leaseSeconds"
_LONG_POLL: Final = "agents wait for messages, and poll nothing"
_IMAGES: Final = "images are the chart's values, with digests"
_ADD_ON: Final = "the cluster's add-ons are chosen by its stack"
_QUEUES: Final = "each partition has an SQS queue for each of three priorities"
_TABLES: Final = "the state lies in DynamoDB"

REPLACED: Final[Mapping[str, str]] = {
    "agent_configuration_filename": "agents read their settings from the environment",
    "agent_sqs_visibility_timeout_sec": _LEASE,
    "agent_task_visibility_timeout_sec": _LEASE,
    "agent_use_congestion_control": "agents back off by themselves when DynamoDB is short of capacity",
    "api_gateway_service": "the API is always Amazon API Gateway",
    "api_gateway_version": "the API has one version, and stays compatible",
    "average_period": "pools scale by work; see ScalingTargetSeconds of the template",
    "aws_htc_ecr": _IMAGES,
    "aws_node_termination_handler": "nodes that end are drained by Karpenter, or by the function node_drainer",
    "aws_xray_daemon_version": "functions send their traces themselves",
    "certificates_dir_path": "certificates are those of AWS",
    "cluster_config": "the cluster is always Amazon EKS",
    "cluster_name": _NAMES,
    "config_name": _NAMES,
    "cw_agent_version": _ADD_ON,
    "cwa_version": "pools are scaled by KEDA",
    "ddb_state_table": _NAMES,
    "ddb_status_table": _NAMES,
    "dimension_name_metrics": _METRICS,
    "dlq_name": _NAMES,
    "docker_registry": _IMAGES,
    "dynamodb_autoscaling_enabled": "provisioned capacity always scales by itself",
    "dynamodb_billing_mode": "tables are on demand, or provisioned if a capacity is given",
    "dynamodb_results_pull_interval_sec": "results are pushed",
    "empty_task_queue_backoff_timeout_sec": _LONG_POLL,
    "enable_xray": "traces are the template's parameter TracingMode",
    "error_log_group": _NAMES,
    "error_logging_stream": _NAMES,
    "fluentbit_version": _ADD_ON,
    "grafana_admin_password": "Grafana is not part of the grid",
    "grafana_configuration": "Grafana is not part of the grid",
    "grid_queue_config": _QUEUES,
    "grid_queue_service": _QUEUES,
    "htc_agent_name": "a pool is a release, named after its partition",
    "htc_agent_namespace": "agents live in the namespace htcgrid",
    "htc_agent_target_value": "pools scale by work; see ScalingTargetSeconds of the template",
    "htc_path_logs": "logs go to the standard output",
    "image_pull_policy": _IMAGES,
    "k8s_ca_version": _ADD_ON,
    "k8s_keda_version": _ADD_ON,
    "kubernetes_version": "the version is the parameter KubernetesVersion of the cluster's stack",
    "lambda_alb_name": _NAMES,
    "lambda_name_cancel_tasks": _NAMES,
    "lambda_name_get_results": _NAMES,
    "lambda_name_scaling_metric": _NAMES,
    "lambda_name_submit_tasks": _NAMES,
    "lambda_name_ttl_checker": _NAMES,
    "lambda_runtime": "the functions' runtime is the template's",
    "lambda_timeout": "the functions' time limits are the template's",
    "metrics_are_enabled": _METRICS,
    "metrics_cancel_tasks_lambda_connection_string": _METRICS,
    "metrics_event_rule_time": _METRICS,
    "metrics_get_results_lambda_connection_string": _METRICS,
    "metrics_grafana_private_ip": _METRICS,
    "metrics_name": _METRICS,
    "metrics_post_agent_connection_string": _METRICS,
    "metrics_pre_agent_connection_string": _METRICS,
    "metrics_submit_tasks_lambda_connection_string": _METRICS,
    "metrics_ttl_checker_lambda_connection_string": _METRICS,
    "namespace_metrics": _METRICS,
    "period_metrics": _METRICS,
    "prometheus_configuration": "Prometheus is not part of the grid",
    "queue_name": _NAMES,
    "redis_port": "the address of Redis is its own",
    "s3_bucket": _NAMES,
    "sqs_dlq": _NAMES,
    "sqs_queue": _NAMES,
    "state_table_config": _TABLES,
    "state_table_service": _TABLES,
    "suffix": _NAMES,
    "task_input_passed_via_external_storage": "small inputs lie in the task's row, large ones in the payload store",
    "task_queue_config": _QUEUES,
    "task_queue_service": _QUEUES,
    "task_ttl_expiration_offset_sec": _LEASE,
    "task_ttl_refresh_interval_sec": _LEASE,
    "tasks_queue_name": _NAMES,
    "tasks_status_table_config": _TABLES,
    "tasks_status_table_service": _TABLES,
    "work_proc_status_pull_interval_sec": _LONG_POLL,
}
"""At the top of the file."""

REPLACED_IN_AGENTS: Final[Mapping[str, str]] = {
    "agent_chart_url": "the chart is the one of this release",
    "get_layer": "the agent's image fetches the function",
    "test": "the chart's value test.image names the client",
}
"""In `agent_configuration`."""

REPLACED_IN_CONTAINERS: Final[Mapping[str, str]] = {
    "layer_version": "a function is known by its digest",
    "lambda_layer_type": "a function's zip lies in S3",
    "layer_name": "a function is known by its digest",
    "maxCPU": "the agent's processor time has no limit",
    "maxMemory": "the agent's memory is its minMemory",
    "pullPolicy": _IMAGES,
    "region": "the Region is the grid's",
    "storage": "where payloads lie is grid_storage_service",
    "tag": "an image is named with its tag",
}
"""In `agent_configuration.lambda` and `agent_configuration.agent`, where the key is not one of today's."""
