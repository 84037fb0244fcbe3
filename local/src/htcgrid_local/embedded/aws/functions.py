"""Functions on one machine: each call at a time is a process that unpacks, imports and competes with the workers."""

import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

_PROCESSORS = os.cpu_count() or 1
_AT_ONCE_FROM_QUEUE = max(2, _PROCESSORS)
"""Two are the least that a mapping may ask for on AWS."""
_AT_ONCE = 2 * _PROCESSORS
_turns: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(_AT_ONCE))
_execute = lambda_svc._execute_function_with_config_scope


def fit_to_machine() -> None:
    """Let a function run as many times at once as the machine can bear, instead of AWS's first five for a queue and
    thousand for others.

    Without that, requests that wait for busy processors start more processes, which keep the processors busier.
    """
    lambda_svc._ESM_SQS_DEFAULT_CONCURRENCY = min(lambda_svc._ESM_SQS_DEFAULT_CONCURRENCY, _AT_ONCE_FROM_QUEUE)
    # Each request and each execution of a workflow has a thread of its own, which may wait.
    lambda_svc._execute_function_with_config_scope = _execute_in_turn


def _execute_in_turn(function: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    with _turns[function["config"]["FunctionArn"]]:
        result: dict[str, Any] = _execute(function, event)
        return result


def warm() -> dict[str, str]:
    """Start the processes of all functions, and return the errors of those that do not start, by function.

    A cold start among busy workers takes seconds here, which the first results would wait for.
    """
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
