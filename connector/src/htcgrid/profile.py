"""Where a grid is and who asks: one small file, written by whoever deployed the grid."""

import json
import os
import shlex
import tempfile
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, StringConstraints, ValidationError

from htcgrid.errors import ProfileInvalid, ProfileMissing


def _with_host(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0:  # the port's own check raises ValueError
        raise ValueError("no host")
    return url


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
}


class Profile(BaseModel):
    """Where a grid is, and optionally who asks. The outputs of the deployed stack hold all but the user."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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

    @classmethod
    def default_path(cls) -> Path:
        """Where a profile is looked for: `$HTCGRID_PROFILE`, else `$HTCGRID_HOME/profile.json`, else `~/.htcgrid/`."""
        named = os.environ.get("HTCGRID_PROFILE")
        if named:
            return Path(named)
        home = os.environ.get("HTCGRID_HOME")
        return (Path(home) if home else Path.home() / ".htcgrid") / "profile.json"

    @classmethod
    def load(cls, path: Path | str | None = None) -> Self:
        """Read a profile, from `default_path()` when no path is given.

        Raises:
            ProfileMissing: there is no such file; says how to make one.
            ProfileInvalid: it is not JSON, or a field is wrong; names it and what is legal. Or it holds a password
                and is open to other users (not asked on Windows).
        """
        place = cls.default_path() if path is None else Path(path)
        try:
            with place.open(encoding="utf-8") as file:
                text = file.read()
                mode = os.fstat(file.fileno()).st_mode
        except FileNotFoundError:
            raise ProfileMissing(
                f"there is no grid profile at {place}: start a grid on this machine with `htcgrid local up`, "
                "or name the profile of another grid in HTCGRID_PROFILE"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ProfileInvalid(f"the grid profile {place} cannot be read: {error}") from error
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

    def save(self, path: Path | str | None = None) -> Path:
        """Write the profile so that only its owner can read it, whole or not at all. Gives the path."""
        place = self.default_path() if path is None else Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        values = self.model_dump(exclude_none=True)
        if self.password is not None:
            values["password"] = self.password.get_secret_value()
        handle, draft = tempfile.mkstemp(dir=place.parent, prefix=".profile-")  # mode 0600 from its first byte on
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(values, file, indent=2)
                file.write("\n")
            Path(draft).replace(place)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        return place


def first_fault(error: ValidationError) -> str:
    """What is wrong with a profile, and what would be right."""
    first = error.errors(include_input=False, include_url=False)[0]
    if not first["loc"]:
        return "it is not a JSON object"
    field = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"there is no field {field!r}; the fields are {', '.join(_LEGAL)}"
    what = "is missing" if first["type"] == "missing" else "is not legal"
    return f"{field!r} {what}: it is {_LEGAL[field]}"
