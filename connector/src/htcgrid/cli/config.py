"""`htcgrid config`: the profile that says where the grid is, and who asks."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from htcgrid.cli.exits import BadInput
from htcgrid.cli.output import print_fields, print_json
from htcgrid.cli.parameters import JsonOption, ProfileOption

if TYPE_CHECKING:
    from htcgrid.profile import Profile

_HIDDEN = "(set)"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    config = typer.Typer(help="The profile: where the grid is, and who asks.", no_args_is_help=True)
    config.command("show")(show)
    config.command("set")(set_profile)
    app.add_typer(config, name="config")


def show(profile: ProfileOption = None, *, as_json: JsonOption = False) -> None:
    """Show the profile in use, without its password."""
    from htcgrid.profile import Profile

    found = Profile.load(profile)
    fields = {"file": str(profile or Profile.default_path()), **_fields(found)}
    if as_json:
        print_json(fields)
    else:
        print_fields((name, str(value)) for name, value in fields.items())


def set_profile(
    api_url: Annotated[str | None, typer.Option(help="The stack's output ApiUrl.")] = None,
    push_url: Annotated[str | None, typer.Option(help="The stack's output PushUrl.")] = None,
    region: Annotated[str | None, typer.Option(help="The stack's Region.")] = None,
    user_pool_client_id: Annotated[str | None, typer.Option(help="The stack's output UserPoolClientId.")] = None,
    aws_endpoint_url: Annotated[str | None, typer.Option(help="Only for an embedded AWS.")] = None,
    username: Annotated[str | None, typer.Option(help="Who signs in.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    ask_password: Annotated[bool, typer.Option("--ask-password", help="Ask for the password.")] = False,
    profile: ProfileOption = None,
) -> None:
    """Write a profile, or change the one that is there.

    Only you can read the file. What is not given stays as it is. A password is never an argument, which others could
    see.
    """
    from pydantic import ValidationError

    from htcgrid.profile import Profile, first_fault

    given = {
        "api_url": api_url,
        "push_url": push_url,
        "region": region,
        "user_pool_client_id": user_pool_client_id,
        "aws_endpoint_url": aws_endpoint_url,
        "username": username,
        "password": _password(stdin=password_stdin, ask=ask_password),
    }
    place = profile or Profile.default_path()
    values = {**_present(place), **{name: value for name, value in given.items() if value is not None}}
    try:
        made = Profile.model_validate(values)
    except ValidationError as error:
        raise BadInput(f"the profile would be wrong: {first_fault(error)}") from None
    try:
        typer.echo(f"written: {made.save(place)}")
    except OSError as error:
        raise BadInput(f"{place} cannot be written: {error.strerror}") from error


def _present(place: Path) -> dict[str, Any]:
    from htcgrid.profile import Profile

    if not place.exists():
        return {}
    found = Profile.load(place)
    values = found.model_dump(exclude_none=True)
    if found.password is not None:
        values["password"] = found.password.get_secret_value()
    return values


def _password(*, stdin: bool, ask: bool) -> str | None:
    if stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return typer.prompt("Password", hide_input=True, err=True) if ask else None


def _fields(profile: "Profile") -> dict[str, Any]:
    values = profile.model_dump(exclude_none=True)
    return {name: _HIDDEN if name == "password" else value for name, value in values.items()}
