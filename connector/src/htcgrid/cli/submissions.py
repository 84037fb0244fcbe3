"""What is kept of a submission until it is through, so that one that was interrupted can go on."""

import re
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from htcgrid.cli.exits import BadInput
from htcgrid.cli.tasks_file import Format
from htcgrid.profiles import home_directory


class SubmissionState(BaseModel):
    """How a session was submitted. Its tasks must be cut alike when the submission goes on, so all of it counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    session_id: str
    file: str
    format: Format
    tasks: int | None
    """How many tasks the file had; none when they came from a stream."""
    digest: str | None
    """SHA-256 of the file; none when there is none to read twice."""
    chunk_size: int | None
    options: dict[str, Any]

    def save(self) -> None:
        """Write it to its place, before anything is sent."""
        place = _place(self.session_id)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def forget(self) -> None:
        """The submission is through."""
        _place(self.session_id).unlink(missing_ok=True)

    @property
    def kept(self) -> bool:
        """Whether it was begun on this machine and is not through."""
        return _place(self.session_id).exists()

    @classmethod
    def load(cls, session_id: str) -> Self | None:
        """What is kept of this session's submission on this machine, if anything.

        Raises:
            BadInput: it cannot be read, or what is given is no session's id.
        """
        if not re.fullmatch(r"[0-9a-f]{32}", session_id):
            raise BadInput(f"{session_id!r} is no session's id, which has 32 hexadecimal digits")
        place = _place(session_id)
        try:
            return cls.model_validate_json(place.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise BadInput(
                f"{place}, which tells how to go on, cannot be read: remove it and give all options"
            ) from error


def _place(session_id: str) -> Path:
    return home_directory() / "submissions" / f"{session_id}.json"
