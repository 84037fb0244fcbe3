"""`htcgrid task replay`: one past task's event, run through a handler on this machine."""

import importlib
import json
import os
import pdb
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from htcgrid.cli.exits import FAILED, BadInput
from htcgrid.cli.output import print_line, say
from htcgrid.cli.parameters import IndexArgument, ProfileOption, SessionArgument, connected
from htcgrid.escaping import json_text, lines

if TYPE_CHECKING:
    from htcgrid_events import TaskRecord


@dataclass(frozen=True)
class ClientContext:
    """What the grid tells a handler of its task, as its agents do."""

    custom: dict[str, str]
    env: None = None
    client: None = None


@dataclass(frozen=True)
class ReplayContext:
    """The context of a Lambda invocation, as far as there is one on this machine."""

    aws_request_id: str
    client_context: ClientContext
    deadline: float
    """On the monotonic clock, in seconds."""
    function_name: str = "htcgrid-replay"
    function_version: str = "$LATEST"
    invoked_function_arn: str = "arn:aws:lambda:local:000000000000:function:htcgrid-replay"
    memory_limit_in_mb: int = 128
    log_group_name: str = "/aws/lambda/htcgrid-replay"
    log_stream_name: str = "replay"
    identity: None = None
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def get_remaining_time_in_millis(self) -> int:
        """What is left of the task's time. Here nothing happens when it is over."""
        return max(0, round((self.deadline - self.clock()) * 1000))


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("replay")(replay)


def replay(
    session: SessionArgument,
    index: IndexArgument,
    handler: Annotated[
        str, typer.Option(metavar="MODULE.FUNCTION", help="The handler, looked for in the current folder first.")
    ],
    debug: Annotated[bool, typer.Option("--debug", help="Run it under the debugger (pdb).")] = False,
    profile: ProfileOption = None,
) -> None:
    """Run a past task through a handler on this machine.

    Prints the result as JSON, or the traceback. Nothing on the grid changes. The handler gets a context as on Lambda,
    and shared data as the path of a copy on this machine.
    """
    function = load_handler(handler)
    with connected(profile) as grid:
        found = grid.attach(session)
        record, event = found.task(index), found.event(index)
        event = grid.resolve(event, _cache())
    context = _context(record)
    try:
        result = pdb.runcall(function, event, context) if debug else function(event, context)
        json.dumps(result, allow_nan=False)  # what is not JSON is the handler's fault, and shown as such
    except Exception as error:  # noqa: BLE001 - whatever the handler raises is shown to its author
        _show(error, debug=debug)
        raise typer.Exit(FAILED) from None
    print_line(json_text(result))


def load_handler(name: str) -> Callable[[Any, ReplayContext], Any]:
    """A function by its name, as `module.function`, which is how Lambda names handlers.

    Raises:
        BadInput: there is no such module or function, or the module cannot be loaded.
    """
    module_name, _, function_name = name.replace(":", ".").rpartition(".")
    if not module_name or not function_name:
        raise BadInput(f"{name!r} does not name a handler: give MODULE.FUNCTION, such as handler.handler")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - a text is wanted
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise BadInput(f"the module {module_name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise BadInput(f"the module {module_name!r} has no function {function_name!r}")
    found: Callable[[Any, ReplayContext], Any] = function
    return found


def _cache() -> Path:
    """Where the shared data of past tasks is kept ("XDG Base Directory Specification")."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "htcgrid/data"


def _context(record: "TaskRecord") -> ReplayContext:
    custom = {
        "htcgrid_session_id": record.session_id,
        "htcgrid_task_id": record.task_id,
        "htcgrid_attempt": str(record.attempt),
    }
    deadline = time.monotonic() + record.options.task_timeout_seconds
    return ReplayContext(aws_request_id=record.task_id, client_context=ClientContext(custom), deadline=deadline)


def _show(error: Exception, *, debug: bool) -> None:
    frames = error.__traceback__.tb_next if error.__traceback__ else None  # without the frame of this module
    for entry in traceback.format_exception(type(error), error, frames):
        for line in lines(entry):
            say(line)
    if debug:
        pdb.post_mortem(frames or error.__traceback__)
