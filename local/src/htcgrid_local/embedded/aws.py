"""MiniStack's ASGI application, with the two gaps closed that the grid falls into.

Runs in MiniStack's own environment, so it imports nothing of the grid.

- On AWS, `TimeoutSeconds` of a JSONata state may be an expression ("Task workflow state", AWS Step Functions Developer
  Guide); MiniStack 1.5 hands the expression's text to a wait that takes a number. `tests/e2e/test_emulator_gaps.py`
  notices when that is no longer so.
- The template's resource policies refuse requests without TLS. Here all speak plain HTTP, on the loopback alone, which
  is as private: so the loopback counts as secure transport, and the template needs no exception for one machine.
"""

import os
import threading
from typing import Any

from ministack.app import app as ministack
from ministack.services import lambda_svc, stepfunctions

__all__ = ["app"]

_evaluated = threading.local()
_apply_arguments = stepfunctions._apply_jsonata_arguments
_invoke_with_callback = stepfunctions._invoke_with_callback


def _apply_arguments_and_timeout(state: dict[str, Any], given: Any, context: Any = None) -> Any:
    # Arguments are evaluated just before the task is invoked, by the same thread and with the same variables.
    _evaluated.timeout = None
    if isinstance(state.get("TimeoutSeconds"), str):
        _evaluated.timeout = stepfunctions._jsonata_state_field(state, "TimeoutSeconds", "number", given, context)
    return _apply_arguments(state, given, context)


def _invoke_with_timeout(resource: str, effective: Any, token: str, state: dict[str, Any]) -> Any:
    timeout = getattr(_evaluated, "timeout", None)
    return _invoke_with_callback(
        resource, effective, token, state if timeout is None else state | {"TimeoutSeconds": timeout}
    )


# AWS begins with five concurrent calls for a queue. Here each is a process that must unpack, import and then share the
# machine with the workers: more of them than processors only make the first results late.
lambda_svc._ESM_SQS_DEFAULT_CONCURRENCY = min(lambda_svc._ESM_SQS_DEFAULT_CONCURRENCY, os.cpu_count() or 1)

stepfunctions._apply_jsonata_arguments = _apply_arguments_and_timeout
stepfunctions._invoke_with_callback = _invoke_with_timeout


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer one request (ASGI)."""
    if scope["type"] == "http":
        scope = scope | {"headers": [*scope["headers"], (b"x-forwarded-proto", b"https")]}
    await ministack(scope, receive, send)
