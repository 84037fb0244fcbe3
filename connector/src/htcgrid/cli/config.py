"""`htcgrid config`: the profiles that say where a grid is, and who signs in."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from htcgrid.cli.exits import BadInput
from htcgrid.cli.output import print_fields, print_json, print_line, print_table, say
from htcgrid.cli.parameters import JsonOption, ProfileOption
from htcgrid.errors import ProfileInvalid, ProfileMissing

if TYPE_CHECKING:
    from htcgrid.profile import Profile

_HIDDEN = "(set)"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    config = typer.Typer(help="Profiles: where a grid is, and who signs in.", no_args_is_help=True)
    config.command("show")(show)
    config.command("set")(set_profile)
    config.command("use")(use)
    config.command("list")(list_profiles)
    app.add_typer(config, name="config")


def show(profile: ProfileOption = None, *, as_json: JsonOption = False) -> None:
    """Show the profile in use, without its password."""
    from htcgrid.profile import Profile

    found = Profile.load(profile)
    fields = {"file": str(_place(profile)), **_fields(found)}
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
    allow_unencrypted: Annotated[
        bool | None,
        typer.Option(help="Whether passwords, tokens and payloads may go to another machine without TLS."),
    ] = None,
    username: Annotated[str | None, typer.Option(help="Who signs in.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    ask_password: Annotated[bool, typer.Option("--ask-password", help="Ask for the password.")] = False,
    profile: ProfileOption = None,
) -> None:
    """Write a profile, or change the one that is there.

    Only you can read the file. What is not given stays as it is. A password is never an argument, which others could
    see. Without --profile it is the profile in use; name another, such as --profile prod, to keep several.
    """
    from pydantic import ValidationError

    from htcgrid.profile import Profile, first_fault

    given = {
        "api_url": api_url,
        "push_url": push_url,
        "region": region,
        "user_pool_client_id": user_pool_client_id,
        "aws_endpoint_url": aws_endpoint_url,
        "allow_unencrypted": allow_unencrypted,
        "username": username,
        "password": _password(stdin=password_stdin, ask=ask_password),
    }
    place = _place_to_write(profile)
    values = {**_present(place), **{name: value for name, value in given.items() if value is not None}}
    try:
        made = Profile.model_validate(values)
    except ValidationError as error:
        raise BadInput(f"the profile would be wrong: {first_fault(error)}") from None
    try:
        saved = made.save(place)
    except ProfileInvalid as error:
        raise BadInput(str(error)) from error
    except OSError as error:
        raise BadInput(f"{place} cannot be written: {error.strerror}") from error
    print_line(f"written: {saved}")


def use(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A profile's name, from `htcgrid config list`.")],
) -> None:
    """Use this profile from now on.

    It is used wherever --profile and HTCGRID_PROFILE name no other.
    """
    from htcgrid import profiles

    try:
        profiles.choose(name)
    except ProfileMissing as error:
        raise BadInput(str(error)) from error
    except OSError as error:
        raise BadInput(f"the choice cannot be written: {error}") from error
    say(f"profile {name} is in use: {profiles.path_of(name)}")
    if named := os.environ.get("HTCGRID_PROFILE"):
        say(f"but HTCGRID_PROFILE is set, and comes first: {named}")


def list_profiles(*, as_json: JsonOption = False) -> None:
    """List the profiles by their names, with a mark at the one in use."""
    from htcgrid import profiles

    in_use = _place(None)
    found = [(name, profiles.path_of(name)) for name in profiles.names()]
    if as_json:
        for name, place in found:
            print_json({"profile": name, "in_use": place == in_use, "file": str(place)})
    elif found:
        rows = [(name, "*" if place == in_use else "", str(place)) for name, place in found]
        print_table(("PROFILE", "IN USE", "FILE"), rows)
    else:
        say("There is no profile: write one with `htcgrid config set`, or start a grid with `htcgrid local up`.")


def _place(named: str | None) -> Path:
    from htcgrid.profile import Profile

    return Profile.default_path() if named is None else Profile.path_of(named)


def _place_to_write(named: str | None) -> Path:
    """The profile in use, but not one that is in use only because there is no other, which is the local grid's."""
    from htcgrid import profiles

    if named is not None or os.environ.get("HTCGRID_PROFILE") or profiles.chosen():
        return _place(named)
    return profiles.path_of(profiles.DEFAULT)


def _present(place: Path) -> dict[str, Any]:
    from htcgrid.profile import Profile

    if not place.exists():
        return {}
    found = Profile.load(place)
    if found.written_by is not None:
        raise BadInput(
            f"{place} belongs to `{found.written_by}`, which overwrites it: name another, such as --profile mine"
        )
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
