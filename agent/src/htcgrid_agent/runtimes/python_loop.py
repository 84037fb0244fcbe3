"""The loop of a Python worker: a task, its handler, its result or its error.

It does what `awslambdaric.bootstrap.run` does, with that module's own parts for all that a handler sees. What is other:
how an error is told never depends on what is in it or on what its task did to the process, and one task finds the
process as another did (see `python_surroundings.py`).
"""

import contextlib
import json
import logging
import os
import socket
import sys
import traceback
from types import TracebackType
from typing import Any

from awslambdaric import bootstrap
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient
from awslambdaric.lambda_runtime_exception import FaultException

from htcgrid_agent.runtimes.python_result import encoded
from htcgrid_agent.runtimes.python_surroundings import Surroundings

_INIT_ERROR = "/2018-06-01/runtime/init/error"
_TRACE_ID = "_X_AMZN_TRACE_ID"
_MAX_NAME = 256
_MAX_MESSAGE = 16 * 1024
_MAX_FRAMES = 500
"""Of each end of a trace."""
_POST_SECONDS = 10

Report = dict[str, Any]


def run(handler: str, client: LambdaRuntimeClient) -> None:
    """Run the tasks that the client is given, until the agent ends."""
    surroundings = Surroundings()
    process = os.getpid()
    sys.stdout = bootstrap.Unbuffered(sys.stdout)
    sys.stderr = bootstrap.Unbuffered(sys.stderr)
    # Not before: the client of the Runtime API would start a thread for each task.
    os.environ["AWS_EXECUTION_ENV"] = f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}"
    with bootstrap.create_log_sink() as log_sink:
        bootstrap._setup_logging(bootstrap._AWS_LAMBDA_LOG_FORMAT, bootstrap._AWS_LAMBDA_LOG_LEVEL, log_sink)
        # Only now: what the runtime itself needs has been imported, whatever names the function's modules have.
        sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
        try:
            function = bootstrap._get_handler(handler)
        except (Exception, SystemExit) as error:  # whatever it is, it is the function's
            if isinstance(error, SystemExit) and not (_says_why(error) and os.getpid() == process):
                raise
            _end_if_forked(process, error)
            report = _report(error, "")
            _log(report, log_sink)
            _post_init_error(client.lambda_runtime_address, report)
            sys.exit(1)
        _end_if_forked(process)
        surroundings.note()
        while True:
            _run_next(client, function, surroundings, log_sink, process)


def _end_if_forked(process: int, error: BaseException | None = None) -> None:
    """End a process that the function forked and that came out of it, before it tells of a task.

    It shares the worker's connection, so what it told would be taken for the end of whichever task runs.
    """
    if os.getpid() == process:
        return
    with contextlib.suppress(Exception):
        if error is not None:
            traceback.print_exception(error)
        sys.stderr.write("A process that the function forked came out of the handler and was ended.\n")
    os._exit(1)


def _run_next(
    client: LambdaRuntimeClient, function: Any, surroundings: Surroundings, log_sink: Any, process: int
) -> None:
    request = client.wait_next_invocation()
    bootstrap._GLOBAL_AWS_REQUEST_ID = request.invoke_id
    bootstrap._GLOBAL_TENANT_ID = request.tenant_id
    if os.environ.get(_TRACE_ID) != request.x_amzn_trace_id:
        bootstrap.update_xray_env_variable(request.x_amzn_trace_id)
        surroundings.note_environment()
    try:
        context = bootstrap.create_lambda_context(
            request.client_context,
            request.cognito_identity,
            request.deadline_time_in_ms,
            request.invoke_id,
            request.invoked_function_arn,
            request.tenant_id,
        )
        event = client.marshaller.unmarshal_request(request.event_body, request.content_type)
        returned = function(event, context)
        _end_if_forked(process)
        result, content_type = encoded(client.marshaller, returned)
    except (Exception, SystemExit) as error:  # whatever it is, it is the handler's
        if isinstance(error, SystemExit) and not (_says_why(error) and os.getpid() == process):
            raise
        _end_if_forked(process, error)
        report = _report(error, request.invoke_id)
        surroundings.put_back(failed=True)
        _log(report, log_sink)
        client.post_invocation_error(request.invoke_id, json.dumps(report), "")
    else:
        surroundings.put_back(failed=False)
        client.post_invocation_result(request.invoke_id, result, content_type)


def _says_why(end: SystemExit) -> bool:
    """Whether it is the end of a task with a text that tells its user why, and not an end of the process by a code."""
    return not isinstance(end.code, int | None)


def _report(error: BaseException, request_id: str) -> Report:
    if isinstance(error, FaultException):
        message, name, trace = error.msg, error.exception_type, error.trace or []
    else:
        message, name, trace = _message(error), type(error).__name__, _trace(error.__traceback__)
    return {
        "errorMessage": _plain(message, _MAX_MESSAGE),
        "errorType": _plain(name, _MAX_NAME),
        "requestId": request_id,
        "stackTrace": [_plain(line, _MAX_MESSAGE) for line in trace],
    }


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - the exception's class is the function's too
        return f"(no message: its __str__ raises {type(second).__name__})"


def _trace(trace: TracebackType | None) -> list[str]:
    """The lines of a trace from the handler on, as Lambda has them."""
    try:
        frames = traceback.extract_tb(trace)
    except Exception:  # noqa: BLE001 - an error without its trace is better than none
        return []
    own = {__file__, bootstrap.__file__}
    first = next((number for number, frame in enumerate(frames) if frame.filename not in own), 0)
    lines = traceback.format_list(frames[first:])
    return lines if len(lines) <= 2 * _MAX_FRAMES else lines[:_MAX_FRAMES] + lines[-_MAX_FRAMES:]


def _plain(text: object, length: int) -> str:
    """Text that every stream can write, not too long."""
    return str(text)[:length].encode(errors="backslashreplace").decode()


def _log(report: Report, log_sink: Any) -> None:
    try:
        bootstrap.log_error(report, log_sink)
    except Exception:  # noqa: BLE001 - as above
        # The log's disk may be full: the error reaches its user all the same.
        logging.getLogger(__name__).debug("an error could not be written to the log")


def _post_init_error(address: str, report: Report) -> None:
    host, _, port = address.rpartition(":")
    body = json.dumps(report)
    with socket.create_connection((host, int(port)), timeout=_POST_SECONDS) as connection:
        connection.sendall(
            f"POST {_INIT_ERROR} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        connection.recv(1)
