"""MiniStack's ASGI application as the grid needs it. Runs in MiniStack's own environment: imports nothing of the grid.

Gaps are closed:

- On AWS, `TimeoutSeconds` of a JSONata state may be an expression ("Task workflow state", AWS Step Functions Developer
  Guide); MiniStack 1.5 hands the expression's text to a wait that takes a number. `tests/e2e/test_emulator_gaps.py`
  notices when that is no longer so.
- AWS authorises a batch as the single actions in it: `SendMessageBatch` as `sqs:SendMessage` ("Actions, resources, and
  condition keys for Amazon SQS"), each statement of a `BatchExecuteStatement` as `dynamodb:PartiQLInsert` and so on, on
  its table. MiniStack 1.5 asks for actions named after the batches, and for PartiQL on every resource.
- The template's resource policies refuse requests without TLS. Here all speak plain HTTP, on the loopback alone, which
  is as private: so the loopback counts as secure transport, and the template needs no exception for one machine.

And functions are made fit for one machine: as many at a time per queue as there are processors, started before the first
call (`POST /_htcgrid/warm`), because a cold start among busy workers takes seconds here.
"""

import asyncio
import json
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ministack.app import app as ministack
from ministack.core import iam_actions, lambda_runtime
from ministack.services import lambda_svc, stepfunctions

__all__ = ["app"]

_PROCESSORS = os.cpu_count() or 1
_evaluated = threading.local()
_apply_arguments = stepfunctions._apply_jsonata_arguments
_invoke_with_callback = stepfunctions._invoke_with_callback


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer one request (ASGI)."""
    if scope["type"] == "http" and scope["path"] == "/_htcgrid/warm":
        await _answer(send, await asyncio.to_thread(_warm_functions))
        return
    if scope["type"] == "http":
        scope = scope | {"headers": [*scope["headers"], (b"x-forwarded-proto", b"https")]}
    await ministack(scope, receive, send)


def _warm_functions() -> dict[str, str]:
    """Start the processes of all functions, and return the errors of those that do not start, by function."""
    workers = list(_workers())
    with ThreadPoolExecutor(_PROCESSORS) as pool:
        errors = list(pool.map(_start, workers))
    return {worker.func_name: error for worker, error in zip(workers, errors, strict=True) if error}


def _workers() -> Iterator[Any]:
    mapped = {mapping["FunctionArn"] for mapping in lambda_svc._esms.values()}
    for name, record in lambda_svc._functions.items():
        config = record["config"]
        count = lambda_svc._ESM_SQS_DEFAULT_CONCURRENCY if config["FunctionArn"] in mapped else 1
        for _ in range(count):
            # Taken one after the other before any is given back, so that each is a process of its own.
            worker, _ = lambda_runtime.acquire_worker(
                name, config, record["code_zip"], config.get("Version", "$LATEST")
            )
            yield worker


def _start(worker: Any) -> str:
    try:
        lambda_runtime.ensure_spawned(worker)
    except RuntimeError as error:
        return str(error)
    finally:
        lambda_runtime.release_worker(worker)
    return ""


async def _answer(send: Any, content: dict[str, str]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


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


stepfunctions._apply_jsonata_arguments = _apply_arguments_and_timeout
stepfunctions._invoke_with_callback = _invoke_with_timeout
_STATEMENT = re.compile(r'\s*(INSERT|UPDATE|DELETE|SELECT)\b[^"]*"([^"]+)"', re.IGNORECASE)
_transaction_checks = iam_actions.dynamodb_transaction_checks
_action_of = iam_actions.extract_iam_action


def _action_of_single(service: str, *request: Any) -> str | None:
    action: str | None = _action_of(service, *request)
    return action.removesuffix("Batch") if action and service == "sqs" else action


def _checks_of_statements(action: str, body: bytes, region: str, account: str) -> list[tuple[str, str]]:
    if action != "dynamodb:BatchExecuteStatement":
        checks: list[tuple[str, str]] = _transaction_checks(action, body, region, account)
        return checks
    found = (_STATEMENT.match(member["Statement"]) for member in json.loads(body)["Statements"])
    return sorted(
        {
            (f"dynamodb:PartiQL{match[1].title()}", f"arn:aws:dynamodb:{region}:{account}:table/{match[2]}")
            for match in found
            if match
        }
    )


iam_actions.extract_iam_action = _action_of_single
iam_actions.dynamodb_transaction_checks = _checks_of_statements

# AWS begins with five at a time, and two are the least that a mapping may ask for there.
lambda_svc._ESM_SQS_DEFAULT_CONCURRENCY = max(2, min(lambda_svc._ESM_SQS_DEFAULT_CONCURRENCY, _PROCESSORS))
