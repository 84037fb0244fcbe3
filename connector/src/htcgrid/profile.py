"""Where a grid is and who asks: one small file, written by whoever deployed the grid."""

import json
import os
import shlex
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, StringConstraints, ValidationError

from htcgrid import profiles
from htcgrid.errors import ProfileInvalid, ProfileMissing
from htcgrid.escaping import visible
from htcgrid.private_files import make_folders, write_private


def _with_host(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0:  # the port's own check raises ValueError
        raise ValueError("no host")
    return url


def address_without_user(url: str) -> str:
    """An address as it may be shown: without a user and a password that somebody wrote into it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _described(stores: dict[str, dict[str, str]] | None) -> dict[str, dict[str, str]] | None:
    from htcgrid_dataplane import StoreMisconfigured
    from htcgrid_dataplane.store_settings import check_settings

    for name, settings in (stores or {}).items():
        if name in ("s3", "s3+redis"):
            raise ValueError(f"{name}: payloads in S3 are reached by presigned URLs, so that nothing is to be set")
        try:
            check_settings(name, settings)
        except StoreMisconfigured as error:
            raise ValueError(f"{name}: {error}") from None
    return stores


_HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://\S+$"), AfterValidator(_with_host)]
_PushUrl = Annotated[str, StringConstraints(pattern=r"^(https?|wss?)://\S+$"), AfterValidator(_with_host)]
_Word = Annotated[str, StringConstraints(min_length=1)]

_OTHERS = 0o077
"""The bits of a file's mode that open it to others than its owner."""

_LEGAL = {
    "api_url": "the address of the sessions API, such as https://abc.execute-api.eu-west-1.amazonaws.com",
    "push_url": "the address of the WebSocket API, such as wss://def.execute-api.eu-west-1.amazonaws.com/v1",
    "region": "the AWS Region of the user pool, such as eu-west-1",
    "user_pool_client_id": "the id of the user pool's client",
    "aws_endpoint_url": "the address of an embedded AWS, or null on AWS",
    "username": "a text or null",
    "password": "a text or null",
    "allow_unencrypted": "true or false",
    "stores": "settings of payload stores that this machine reaches itself, texts by the name of each store, "
    'such as {"redis": {"url": "rediss://cache.example.com:6379"}}',
    "written_by": "the command that writes this profile, or null for one that is yours",
}


class Profile(BaseModel):
    """Where a grid is, and optionally who asks. The outputs of the deployed stack hold all but the user."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    api_url: _HttpUrl
    """Base of the sessions API."""
    push_url: _PushUrl
    """Base of the WebSocket API."""
    region: _Word
    """AWS Region of the user pool."""
    user_pool_client_id: _Word
    """Id of the user pool's client that allows sign-in by password."""
    aws_endpoint_url: _HttpUrl | None = None
    """Where Cognito answers when it is not AWS's own. Default: AWS's own."""
    username: str | None = None
    """Who signs in, unless `Grid.connect` is told."""
    password: SecretStr | None = None
    """With what, unless `Grid.connect` is told. The file is readable by its owner alone."""

    allow_unencrypted: bool = False
    """Whether password, tokens and payloads may go to another machine without TLS. Default: no; this machine's own
    addresses need none."""

    stores: Annotated[dict[str, dict[str, str]] | None, AfterValidator(_described)] = None
    """Payload stores that this machine reaches itself, without the grid's API between them: the settings of each, as
    agents have them in HTCGRID_STORE_SETTINGS, by its name. Default: none; payloads in S3 need nothing here."""

    written_by: str | None = None
    """The command that writes this profile anew whenever it is run, such as `htcgrid local up`. None where the profile
    is the user's own, which no such command overwrites."""

    def __repr__(self) -> str:
        user = f" for {self.username}" if self.username else ""
        return visible(
            f"<Profile of {address_without_user(self.api_url)}{user}{', with a password' * bool(self.password)}>"
        )

    def __str__(self) -> str:
        return repr(self)

    @classmethod
    def default_path(cls) -> Path:
        """The profile that is used when none is named: the one in `$HTCGRID_PROFILE` (a name or a file), else the one
        that `htcgrid config use` chose, else `default`."""
        named = os.environ.get("HTCGRID_PROFILE")
        return cls.path_of(named) if named else profiles.path_of(profiles.current())

    @classmethod
    def path_of(cls, given: Path | str) -> Path:
        """The file of a profile. A text such as `local` is a profile's name, and one with a dot or a slash a path.

        Raises:
            ProfileMissing: the text is empty.
        """
        if given == "":
            raise ProfileMissing("the name of the profile is empty: give a name or a file, or leave it out")
        if isinstance(given, str) and profiles.is_name(given):
            return profiles.path_of(given)
        return Path(given).expanduser()

    @classmethod
    def load(cls, given: Path | str | None = None) -> Self:
        """Read a profile by its name or its path; that of `default_path()` when none is given.

        Raises:
            ProfileMissing: there is no such file; says how to make one.
            ProfileInvalid: it is not JSON, or a field is wrong; names it and what is legal. Or it holds a password
                and is open to other users (not asked on Windows).
        """
        place = cls.default_path() if given is None else cls.path_of(given)
        try:
            with place.open(encoding="utf-8") as file:
                text = file.read()
                mode = os.fstat(file.fileno()).st_mode
        except FileNotFoundError:
            raise ProfileMissing(_missing(place)) from None
        except UnicodeDecodeError:
            raise ProfileInvalid(f"the grid profile {place} is not a text in UTF-8: save it as UTF-8") from None
        except OSError as error:
            raise ProfileInvalid(f"the grid profile {place} cannot be read: {error.strerror}") from error
        try:
            profile = cls.model_validate_json(text)
        except ValidationError as error:
            raise ProfileInvalid(f"the grid profile {place} is wrong: {first_fault(error)}") from None
        if profile.password is not None and os.name == "posix" and mode & _OTHERS:
            raise ProfileInvalid(
                f"the grid profile {place} holds a password and is open to other users: "
                f"make it yours alone with `chmod 600 {shlex.quote(str(place))}`"
            )
        return profile

    def save(self, given: Path | str | None = None) -> Path:
        """Write the profile so that only its owner can read it, whole or not at all. Gives the path.

        A file that somebody else wrote is never overwritten: see `written_by`. A symbolic link is followed.

        Raises:
            ProfileInvalid: a file that is not a profile, or was written by another command, lies there.
            OSError: the file cannot be written.
        """
        place = self.default_path() if given is None else self.path_of(given)
        self._check_that_it_may_replace(place)
        target = place.resolve()
        make_folders(target.parent)
        values = self.model_dump(exclude_none=True)
        if self.password is not None:
            values["password"] = self.password.get_secret_value()
        write_private(target, json.dumps(values, indent=2) + "\n")
        return place

    @classmethod
    def remove(cls, given: Path | str, *, written_by: str) -> bool:
        """Remove a profile if this command wrote it. Says whether it did.

        Raises:
            OSError: the file cannot be read or removed.
        """
        place = cls.path_of(given)
        if not place.is_file() or _writer_of(place) != written_by:
            return False
        place.unlink()
        return True

    def _check_that_it_may_replace(self, place: Path) -> None:
        if not place.exists():
            return
        name_another = "name another profile with --profile"
        writer = _writer_of(place)
        if writer is _NOT_A_PROFILE:
            raise ProfileInvalid(f"{place} is not a grid profile and is left as it is: {name_another}")
        if writer != self.written_by:
            owner = f"belongs to `{writer}`" if isinstance(writer, str) else "was not written by this command"
            raise ProfileInvalid(f"the grid profile {place} {owner} and is left as it is: {name_another}")


_NOT_A_PROFILE = object()


def _writer_of(place: Path) -> object:
    """The field `written_by` of the file, however wrong its other fields are; `_NOT_A_PROFILE` if it is no JSON object.

    An empty file counts as one of the user.
    """
    if not place.is_file():
        return _NOT_A_PROFILE
    try:
        values = json.loads(place.read_bytes() or b"{}")
    except ValueError:
        return _NOT_A_PROFILE
    return values.get("written_by") if isinstance(values, dict) else _NOT_A_PROFILE


def _missing(place: Path) -> str:
    found = profiles.names()
    there_are = f" (there are profiles named {', '.join(found)}: see `htcgrid config use`)" if found else ""
    return (
        f"there is no grid profile at {place}{there_are}: start a grid on this machine with `htcgrid local up`, "
        "or name the profile of another grid in HTCGRID_PROFILE"
    )


def first_fault(error: ValidationError) -> str:
    """What is wrong with a profile, and what would be right."""
    first = error.errors(include_input=False, include_url=False)[0]
    if not first["loc"]:
        return "it is not a JSON object"
    field = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"there is no field {field!r}; the fields are {', '.join(_LEGAL)}"
    if field == "stores" and first["type"] == "value_error":
        return f"in {field!r} is {first['msg'].removeprefix('Value error, ')}"
    what = "is missing" if first["type"] == "missing" else "is not legal"
    return f"{field!r} {what}: it is {_LEGAL[field]}"
