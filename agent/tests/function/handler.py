"""A function that behaves as each task tells it to."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Each worker may be a user of its own, and another one may go on with a note.
os.umask(0)


def handler(event: dict[str, Any], context: Any) -> Any:
    """Do what the event says under `do`, with `note` as a file that tells of the start."""
    if "note" in event:
        note = Path(event["note"])
        with note.open("a") as file:
            file.write(f"{os.getpid()}\n")
    return globals()[f"do_{event['do']}"](event, context)


def do_echo(event: dict[str, Any], context: Any) -> Any:
    return event.get("value")


def do_facts(event: dict[str, Any], context: Any) -> Any:
    return {
        "name": context.function_name,
        "version": context.function_version,
        "memory": context.memory_limit_in_mb,
        "request_id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "log_group": context.log_group_name,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "custom": context.client_context.custom,
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
    }


def do_raise(event: dict[str, Any], context: Any) -> Any:
    return _raise(event.get("depth", 0), event.get("message", "no luck"))


def _raise(depth: int, message: str) -> None:
    if depth:
        _raise(depth - 1, message)
    raise LookupError(message)


class NonRetryableError(Exception):
    """Says that trying again is of no use."""


def do_raise_final(event: dict[str, Any], context: Any) -> Any:
    raise NonRetryableError("the input is wrong and stays wrong")


def do_raise_once(event: dict[str, Any], context: Any) -> Any:
    """Fail at the first try: the note has a line per try."""
    if len(Path(event["note"]).read_text().splitlines()) == 1:
        raise LookupError("the first try fails")
    return "second try"


def do_exit(event: dict[str, Any], context: Any) -> Any:
    sys.stderr.write("about to leave\n")
    sys.stderr.flush()
    os._exit(3)


def do_kill_agent(event: dict[str, Any], context: Any) -> Any:
    """As a task that brings its host down. Needs the sandbox `folder`: in namespaces it cannot even see the agent."""
    os.kill(int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    return do_hang(event, context)


def do_signal(event: dict[str, Any], context: Any) -> Any:
    os.kill(os.getpid(), event["number"])
    return do_hang(event, context)


def do_exit_code(event: dict[str, Any], context: Any) -> Any:
    os._exit(event["code"])


def do_sys_exit(event: dict[str, Any], context: Any) -> Any:
    sys.exit(4)


def do_segfault(event: dict[str, Any], context: Any) -> Any:
    ctypes.string_at(0)


def do_hang(event: dict[str, Any], context: Any) -> Any:
    while True:
        time.sleep(60)


def do_wait(event: dict[str, Any], context: Any) -> Any:
    """Wait for a file."""
    while not Path(event["until"]).exists():
        time.sleep(0.01)
    return event.get("value")


def do_print(event: dict[str, Any], context: Any) -> Any:
    for stream in (sys.stdout, sys.stderr):
        stream.write("x" * event["bytes"])
        stream.flush()
    return "printed"


def do_nan(event: dict[str, Any], context: Any) -> Any:
    return float("nan")


def do_bytes(event: dict[str, Any], context: Any) -> Any:
    return event["value"].encode()


def do_large(event: dict[str, Any], context: Any) -> Any:
    return os.urandom(event["bytes"] // 2).hex()


def do_allocate(event: dict[str, Any], context: Any) -> Any:
    blocks = []
    while True:
        blocks.append(bytearray(64 * 1024 * 1024))


def do_child(event: dict[str, Any], context: Any) -> Any:
    """Leave a child behind and hang or exit."""
    child = subprocess.Popen(["sleep", "600"])
    Path(event["child"]).write_text(str(child.pid))
    if event["then"] == "exit":
        os._exit(5)
    return do_hang(event, context)


def do_run(event: dict[str, Any], context: Any) -> Any:
    """Run the event's code, and give what it calls `result`."""
    scope: dict[str, Any] = {"event": event, "context": context}
    exec(event["code"], scope)  # noqa: S102 - it is the test's own
    return scope.get("result")


def do_nap(event: dict[str, Any], context: Any) -> Any:
    time.sleep(event["seconds"])
    return "rested"
