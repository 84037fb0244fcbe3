"""Errors of functions are named after their exceptions, as on AWS: workflows tell by the name what to do."""

import re
from typing import Any

from ministack.services import lambda_svc

_UNNAMED = "Runtime.HandlerError"
_LAST_LINE = re.compile(r"^(?:[\w.]+\.)?([A-Za-z_]\w*)(?:: |$)")


def name_errors() -> None:
    """Take the name of an exception from the trace that the function's process has logged."""
    execute = lambda_svc._execute_function_warm

    def execute_and_name(func: dict[str, Any], event: dict[str, Any], request_id: str) -> dict[str, Any]:
        result: dict[str, Any] = execute(func, event, request_id)
        body = result.get("body")
        if result.get("error") and isinstance(body, dict) and body.get("errorType") == _UNNAMED:
            body["errorType"] = name_of(result.get("log", ""), body.get("errorMessage", ""))
        return result

    lambda_svc._execute_function_warm = execute_and_name


def name_of(log: str, message: str) -> str:
    """The class of the exception with this message at the end of a trace."""
    for line in reversed(log.splitlines()):
        found = _LAST_LINE.match(line)
        if found and message.splitlines()[:1] == [line[found.end() :]]:
            return found[1]
    return _UNNAMED
