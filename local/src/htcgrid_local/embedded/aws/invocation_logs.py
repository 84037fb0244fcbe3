"""The log of an invocation ends where the function's process says so.

MiniStack does not know whether more is to come, and waits: 50 ms after each invocation that logs nothing, 5 ms after
others. Every request to an API of the grid would take that much longer.
"""

import queue
import time
from typing import Any

from ministack.core import lambda_runtime

_END = "end of the invocation's log"
_LONGEST_SECONDS = 0.25
_CALL = "            result = handler_fn(event, context)\n"
_MARKED_CALL = f"""            try:
                result = handler_fn(event, context)
            finally:
                print({_END!r}, file=sys.stderr, flush=True)
"""
_drain_and_wait = lambda_runtime.Worker._drain_stderr_bounded


def end_with_invocations() -> None:
    """Let processes of Python functions mark where the log of an invocation ends."""
    script = lambda_runtime._PYTHON_WORKER_SCRIPT
    if script.count(_CALL) != 1:
        raise RuntimeError("this MiniStack calls handlers in another way: see invocation_logs.py")
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(_CALL, _MARKED_CALL)
    lambda_runtime.Worker._drain_stderr_bounded = _drain


def _drain(worker: Any, *waits: float, **named_waits: float) -> str:
    if not worker.config.get("Runtime", "").startswith("python"):
        return str(_drain_and_wait(worker, *waits, **named_waits))
    lines: list[str] = []
    latest = time.monotonic() + _LONGEST_SECONDS
    while (left := latest - time.monotonic()) > 0:
        try:
            line = worker._stderr_queue.get(timeout=left)
        except queue.Empty:
            break
        if line == _END:
            break
        lines.append(line)
    return "\n".join(lines)
