"""`htcgrid status`: the state of a session, and how many of its tasks have which outcome."""

from typing import TYPE_CHECKING

import typer

from htcgrid.cli.output import moment, print_fields, print_json
from htcgrid.cli.parameters import JsonOption, ProfileOption, SessionArgument, connected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htcgrid_events import SessionStatus


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("status")(print_status)


def print_status(session: SessionArgument, profile: ProfileOption = None, *, as_json: JsonOption = False) -> None:
    """Show the state of a session, and the outcomes of its tasks."""
    with connected(profile) as grid:
        show_status(grid.attach(session).status(), as_json=as_json)


def _function(digests: "Sequence[str]") -> list[tuple[str, str]]:
    """Which version of the function ran; nothing where no agent has said so."""
    if not digests:
        return []
    if len(digests) == 1:
        return [("function", f"version {digests[0]}")]
    return [("function", f"{len(digests)} versions, so results are of different code: {', '.join(digests)}")]


def show_status(status: "SessionStatus", *, as_json: bool) -> None:
    """Print the state of a session, as `htcgrid status` does."""
    if as_json:
        print_json(status)
        return
    from htcgrid_events.views import counted

    account = status.account
    asked = f", stopping ({status.stop_reason})" if status.stop_reason and not status.state.ended else ""
    held = ", paused" if status.paused and not status.state.ended else ""
    fields = [
        ("session", status.session_id),
        ("state", f"{status.state.value}{asked}{held}"),
        ("tasks", f"{account.submitted:,} in {counted(status.chunks, 'chunk')}"),
        ("completed", f"{account.completed:,}"),
        ("failed", f"{account.failed:,}"),
        ("cancelled", f"{account.cancelled:,}"),
        ("open", f"{account.submitted - account.finished:,}"),
        *_function(status.function_digests),
        ("created", moment(status.created_at)),
        ("deadline", moment(status.deadline_at)),
    ]
    print_fields([*fields, ("ended", moment(status.ended_at))] if status.ended_at else fields)
