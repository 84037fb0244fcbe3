"""`htcgrid errors`: which tasks of a session failed, and why."""

from typing import TYPE_CHECKING, Annotated

import typer

from htcgrid.cli.output import one_line, print_indented, print_json, print_line, print_table, say
from htcgrid.cli.parameters import JsonOption, ProfileOption, SessionArgument, connected
from htcgrid.cli.results import finished_by_now
from htcgrid.cli.task_json import error_of
from htcgrid.errors import TaskFailed

if TYPE_CHECKING:
    from htcgrid.session import Session


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("errors")(show_errors)


def show_errors(
    session: SessionArgument,
    every: Annotated[bool, typer.Option("--all", help="Each failed task by itself, with its trace.")] = False,
    profile: ProfileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show which tasks have failed so far, and why.

    Tasks that failed alike share a line, unless --all is given.
    """
    with connected(profile) as grid:
        found = grid.attach(session)
        if every:
            _show_each(found, as_json=as_json)
        else:
            _show_groups(found, as_json=as_json)


def _show_groups(session: "Session", *, as_json: bool) -> None:
    from htcgrid.cli.failure_groups import group
    from htcgrid_events.views import counted

    groups = group(session.dead_letters())
    if as_json:
        for each in groups:
            print_json(each.as_json())
    elif groups:
        heads = ("FINGERPRINT", "TASKS", "KIND", "TYPE", "MESSAGE", "FOR EXAMPLE")
        print_table(heads, [each.row() for each in groups], right=(1,))
    untold = session.status().account.failed - sum(each.count for each in groups)
    if untold > 0:
        tasks = f"{counted(untold, 'failed task')} {'has' if untold == 1 else 'have'}"
        say(f"{tasks} no dead letter (any more); to see all: htcgrid errors {session.id} --all")
    elif not groups:
        say("No task has failed.")


def _show_each(session: "Session", *, as_json: bool) -> None:
    from htcgrid_events.views import counted

    told = False
    for failure in _failures(session):
        told = True
        if as_json:
            print_json({"index": failure.index, **error_of(failure)})
            continue
        tried = counted(failure.attempts, "attempt")
        where = f" on {failure.agent}" if failure.agent else ""
        print_line(f"task {failure.index}, {failure.kind}, {tried}{where}: {failure.type}: {one_line(failure.message)}")
        for entry in failure.trace:
            print_indented(entry)
    if not told:
        say("No task has failed.")


def _failures(session: "Session") -> list[TaskFailed]:
    found = (task.error for task in finished_by_now(session))
    return sorted((error for error in found if isinstance(error, TaskFailed)), key=lambda error: error.index)
