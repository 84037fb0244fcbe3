"""`htcgrid data`: what many tasks share."""

import json
from pathlib import Path
from typing import Annotated

import typer

from htcgrid.cli.output import moment, print_json, print_line, print_table, say, upload_progress
from htcgrid.cli.parameters import JsonOption, ProfileOption, connected
from htcgrid.escaping import visible


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    data = typer.Typer(help="Put, list or delete data that many tasks share.", no_args_is_help=True)
    data.command("put")(put)
    data.command("list")(list_data)
    data.command("rm")(remove)
    app.add_typer(data, name="data")


def put(
    path: Annotated[Path, typer.Argument(help="A file or a folder.")],
    name: Annotated[
        str | None,
        typer.Option(help="The last part of the path at which handlers find it.", show_default="that of PATH"),
    ] = None,
    profile: ProfileOption = None,
) -> None:
    """Put a file or a folder into the grid, and print the reference to it.

    An event may hold the reference anywhere: the handler finds the path of a read-only file or folder in its place.
    What is in the grid already is not uploaded again.
    """
    with connected(profile) as grid, upload_progress() as progress:
        print_line(json.dumps(grid.put(path, name=name, progress=progress)))


def list_data(profile: ProfileOption = None, *, as_json: JsonOption = False) -> None:
    """List your data in the grid."""
    with connected(profile) as grid:
        records = list(grid.data())
    if as_json:
        for record in records:
            print_json(record.model_dump(mode="json", exclude_none=True))
    elif records:
        rows = [
            (
                record.reference.sha256,
                f"{record.reference.bytes:,}",
                record.state.value,
                moment(record.expires_at),
                visible(record.reference.name) + "/" * record.reference.folder,
            )
            for record in records
        ]
        print_table(("SHA256", "BYTES", "STATE", "EXPIRES", "NAME"), rows, right=(1,))
    else:
        say("There is no shared data.")


def remove(
    digests: Annotated[list[str], typer.Argument(metavar="SHA256...", help="Digests, from `htcgrid data list`.")],
    force: Annotated[bool, typer.Option("--force", help="Also while sessions refer to it.")] = False,
    profile: ProfileOption = None,
) -> None:
    """Delete data from the grid."""
    with connected(profile) as grid:
        for digest in digests:
            print_line(f"{digest}  {'deleted' if grid.delete_data(digest, force=force) else 'not there'}")
