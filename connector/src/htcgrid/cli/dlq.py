"""`htcgrid dlq`: tasks that failed for good, to be looked at, run again or forgotten."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from htcgrid.cli.exits import FAILED, BadInput
from htcgrid.cli.failure_groups import group
from htcgrid.cli.output import moment, print_fields, print_json, print_line, print_table, say
from htcgrid.cli.parameters import JsonOption, ProfileOption, SessionArgument, YesOption, connected
from htcgrid.cli.tasks_file import json_value

if TYPE_CHECKING:
    from htcgrid.options import JSON
    from htcgrid_events import DeadLetter

_FingerprintOption = Annotated[str | None, typer.Option(help="Only those that failed in this way.")]
_TaskOption = Annotated[list[int] | None, typer.Option("--task", min=0, help="Only this task; repeatable.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    dlq = typer.Typer(help="List, run again or forget tasks that failed for good.", no_args_is_help=True)
    dlq.command("list")(list_letters)
    dlq.command("show")(show_letters)
    dlq.command("redrive")(redrive)
    dlq.command("purge")(purge)
    app.add_typer(dlq, name="dlq")


def list_letters(session: SessionArgument, profile: ProfileOption = None, *, as_json: JsonOption = False) -> None:
    """List the failed tasks of a session, grouped by how they failed."""
    with connected(profile) as grid:
        groups = group(grid.attach(session).dead_letters())
    if as_json:
        for each in groups:
            print_json(each.as_json())
    elif groups:
        heads = ("FINGERPRINT", "TASKS", "KIND", "TYPE", "MESSAGE", "FOR EXAMPLE")
        print_table(heads, [each.row() for each in groups], right=(1,))
    else:
        say("There is no dead letter.")


def show_letters(
    session: SessionArgument,
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="From `htcgrid dlq list`.")],
    profile: ProfileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show the failed tasks of one fingerprint.

    Tells which tasks, where, when, and after how many attempts.
    """
    told = False
    with connected(profile) as grid:
        for letter in grid.attach(session).dead_letters():
            if letter.fingerprint == fingerprint:
                if told and not as_json:
                    print_line()
                _show(letter, as_json=as_json)
                told = True
    if not told:
        say(f"htcgrid: session {session} has no dead letter with the fingerprint {fingerprint}")
        raise typer.Exit(FAILED)


def redrive(
    session: SessionArgument,
    fingerprint: _FingerprintOption = None,
    task: _TaskOption = None,
    event: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Run the one --task with the JSON in this file instead.")
    ] = None,
    yes: YesOption = False,
    profile: ProfileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Run failed tasks again.

    All of a session, those of a fingerprint, or some by their numbers. A
    session that has ended reopens until they are done.
    """
    events = None if event is None else _events(event, task)
    _confirm(f"Run {_named(session, fingerprint, task)} again?", fingerprint, task, yes=yes)
    with connected(profile) as grid:
        found = grid.attach(session)
        count = found.redrive(fingerprint=fingerprint, tasks=task or None, events=events)
        left = sum(len(_wanted(letter, fingerprint, task)) for letter in found.dead_letters())
    _tell(count, "run again", as_json=as_json)
    if not (count or left):
        say("none of them is a dead letter: they did not fail, or were run again or forgotten already")
    if left:
        wait = f"{left:,} of them {'waits' if left == 1 else 'wait'}"
        say(f"{wait} for other tasks of the same chunk that still run, or failed again: repeat the command later")


def purge(
    session: SessionArgument,
    fingerprint: _FingerprintOption = None,
    task: _TaskOption = None,
    yes: YesOption = False,
    profile: ProfileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Forget failed tasks.

    They are no longer listed or run again. They stay failed.
    """
    _confirm(f"Forget {_named(session, fingerprint, task)}?", fingerprint, task, yes=yes)
    with connected(profile) as grid:
        count = grid.attach(session).purge(fingerprint=fingerprint, tasks=task or None)
    _tell(count, "forgotten", as_json=as_json)


def _wanted(letter: "DeadLetter", fingerprint: str | None, tasks: list[int] | None) -> list[int]:
    """The tasks of a letter that were asked for."""
    if fingerprint not in (None, letter.fingerprint):
        return []
    return [index for index in letter.tasks if not tasks or index in tasks]


def _events(file: Path, tasks: list[int] | None) -> "dict[int, JSON]":
    if tasks is None or len(tasks) != 1:
        raise BadInput("--event is for one task: name it with --task")
    try:
        return {tasks[0]: json_value(file.read_text(encoding="utf-8-sig"))}
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not a text in UTF-8: save it as UTF-8") from error
    except ValueError as error:
        raise BadInput(f"{file} is not JSON: {error}") from error


def _confirm(question: str, fingerprint: str | None, tasks: list[int] | None, *, yes: bool) -> None:
    """Ask before everything of a session is touched."""
    if fingerprint is None and not tasks and not yes:
        typer.confirm(question, abort=True, err=True)


def _named(session: str, fingerprint: str | None, tasks: list[int] | None) -> str:
    return f"all dead letters of session {session}" if fingerprint is None and not tasks else "these dead letters"


def _tell(count: int, what: str, *, as_json: bool) -> None:
    from htcgrid_events.views import counted

    if as_json:
        print_json({"tasks": count})
    else:
        print_line(f"{counted(count, 'task')} {what}")


def _show(letter: "DeadLetter", *, as_json: bool) -> None:
    if as_json:
        print_json(letter)
        return
    from htcgrid_events.views import counted

    fields: list[tuple[str, Any]] = [
        ("tasks", ", ".join(map(str, letter.tasks))),
        ("chunk", letter.chunk),
        ("failed", f"{moment(letter.recorded_at)} after {counted(letter.attempts, 'attempt')}"),
        ("agent", f"{letter.agent or '-'} on {letter.host or '-'}"),
        ("error", f"{letter.kind.value}: {letter.type}: {letter.message}"),
    ]
    print_fields((name, str(value)) for name, value in fields)
