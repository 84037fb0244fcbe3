"""What is kept of a submission until it is complete, so that an interrupted one can be continued."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from htcgrid.cli.exits import BadInput, OutputFailed
from htcgrid.cli.tasks_file import Format
from htcgrid.private_files import make_folders, write_private
from htcgrid.profiles import home_directory


class SubmissionState(BaseModel):
    """How a session was submitted. All of it is needed to cut the tasks into the same chunks again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    session_id: str
    file: str
    format: Format | None
    """None where it is found by how the text begins."""
    tasks: int | None
    """How many tasks the file had; none when they came from a stream."""
    digest: str | None
    """SHA-256 of the file; none when there is none to read twice."""
    chunk_size: int | None
    options: dict[str, Any]

    def save(self) -> None:
        """Write it to its place, before anything is sent. Raises `OutputFailed` when that cannot be written."""
        place = _place(self.session_id)
        try:
            make_folders(place.parent)
            write_private(place, self.model_dump_json(indent=2) + "\n")
        except OSError as error:
            what = f"{place}, which would tell how to continue the submission, cannot be written: {error.strerror}"
            raise OutputFailed(f"{what}; set HTCGRID_HOME to a folder that can, nothing was sent") from error

    def forget(self) -> None:
        """Remove it, when the submission is complete or cancelled."""
        _place(self.session_id).unlink(missing_ok=True)

    @property
    def kept(self) -> bool:
        """Whether the submission was begun on this machine and is not complete."""
        return _place(self.session_id).exists()

    @staticmethod
    def kept_ids(beginning: str) -> list[str]:
        """The sessions whose ids begin like this, and whose submissions were begun on this machine and are not
        complete."""
        return sorted(place.stem for place in (home_directory() / "submissions").glob(f"{beginning}*.json"))

    @classmethod
    def load(cls, session_id: str) -> Self | None:
        """What is kept of this session's submission on this machine, if anything.

        Raises:
            BadInput: it cannot be read.
        """
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
