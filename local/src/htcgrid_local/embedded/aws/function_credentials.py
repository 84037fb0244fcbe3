"""Credentials of functions that nobody can guess: MiniStack derives them from the names of function and role."""

import secrets
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc, sts

_given: dict[tuple[str, str], dict[str, str]] = {}


def make_random() -> None:
    """Let each pair of function and role have random credentials, for as long as the embedded AWS runs."""
    lambda_runtime.execution_credentials = _credentials
    lambda_svc.execution_credentials = _credentials


def _credentials(config: dict[str, Any]) -> dict[str, str]:
    function, role = config["FunctionArn"], config.get("Role", "")
    if (function, role) not in _given:
        given = {
            "AWS_ACCESS_KEY_ID": f"ASIA{secrets.token_hex(8).upper()}",
            "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
            "AWS_SESSION_TOKEN": secrets.token_urlsafe(60),
        }
        account, role_name = lambda_runtime._account_from_arn(function), role.rsplit("/", 1)[-1]
        session_name = config["FunctionName"][:64]
        sts.register_session(
            given["AWS_ACCESS_KEY_ID"],
            {
                "Arn": f"arn:aws:sts::{account}:assumed-role/{role_name}/{session_name}",
                "UserId": f"{role_name}:{session_name}",
                "SecretAccessKey": given["AWS_SECRET_ACCESS_KEY"],
                "SessionToken": given["AWS_SESSION_TOKEN"],
            },
        )
        _given[function, role] = given
    return _given[function, role]
