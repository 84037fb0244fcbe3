"""What the first HTC-Grid wrote for its clients."""

from typing import Any

from connector.tests.stub_grid import StubGrid


def config_of(stub: StubGrid, **more: Any) -> dict[str, Any]:
    """A configuration as the first HTC-Grid's deployment writes it, with this grid's addresses."""
    profile = stub.profile()
    return {
        "region": "eu-west-1",
        "sqs_endpoint": "https://sqs.eu-west-1.amazonaws.com",
        "redis_url": "redis.example.com",
        "redis_password": "secret",
        "grid_storage_service": "REDIS",
        "task_input_passed_via_external_storage": 1,
        "dynamodb_results_pull_interval_sec": 1,
        "user_pool_id": "eu-west-1_pool",
        "cognito_userpool_client_id": "client",
        "public_api_gateway_url": profile.api_url,
        "private_api_gateway_url": "https://private.example.com",
        "api_gateway_key": "key",
        "enable_xray": "0",
        "push_url": profile.push_url,
        "aws_endpoint_url": profile.aws_endpoint_url,
        **more,
    }
