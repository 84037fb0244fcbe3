"""JSON Schemas of everything that crosses a boundary, for those who do not write Python.

`python -m htcgrid_events.schemas [folder]` writes one file each. The project keeps them in `events/schemas`, and a test
sees that they are in step with the models.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from htcgrid_events.api import (
    AddChunks,
    CancelledSessions,
    CancelSessions,
    ChunkPage,
    CreateSession,
    ErrorBody,
    GridInfo,
    OutcomePage,
    PushTicket,
    SessionAccepted,
    SessionPage,
    SessionStatus,
    TaskInput,
    TaskRecord,
    UploadPlaces,
    UploadRequest,
)
from htcgrid_events.bus import BUS_EVENTS, TasksRetrying
from htcgrid_events.data import DataDeleted, DataPage, DataPlace, DataRecord, DataReference, PutData
from htcgrid_events.dead_letters import DeadLetterPage, DeadLettersDone, PurgeTasks, RedriveTasks
from htcgrid_events.model import Contract
from htcgrid_events.outcome import ChunkFinished, ChunkQueued
from htcgrid_events.push import ChunksFrame, PingFrame, PongFrame, SessionEndedFrame

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

CONTRACTS: Mapping[str, type[Contract]] = {
    **{f"bus.{name.replace(' ', '')}": model for name, model in BUS_EVENTS.items()},
    **{f"queue.{model.__name__}": model for model in (ChunkQueued, ChunkFinished, TasksRetrying)},
    **{f"push.{model.__name__}": model for model in (ChunksFrame, SessionEndedFrame, PingFrame, PongFrame)},
    "event.DataReference": DataReference,
    **{
        f"api.{model.__name__}": model
        for model in (CreateSession, AddChunks, UploadRequest, PutData, CancelSessions, RedriveTasks, PurgeTasks)
    },
    **{
        f"api.{model.__name__}": model
        for model in (
            SessionAccepted,
            SessionStatus,
            SessionPage,
            CancelledSessions,
            OutcomePage,
            ChunkPage,
            TaskRecord,
            TaskInput,
            DeadLetterPage,
            DeadLettersDone,
            UploadPlaces,
            DataPlace,
            DataRecord,
            DataPage,
            DataDeleted,
            PushTicket,
            GridInfo,
            ErrorBody,
        )
    },
}
"""Where a contract is used and what it is called (a bus event by its detail type), to its model."""


def schema_text(name: str) -> str:
    """The schema of one of `CONTRACTS`, as it stands in its file."""
    schema = {"$schema": _DIALECT, "$id": f"{name}.json", **CONTRACTS[name].model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


def write_schemas(folder: Path) -> None:
    """Write all schemas into a folder, and remove those of contracts that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.json"):
        if file.stem not in CONTRACTS:
            file.unlink()
    for name in CONTRACTS:
        (folder / f"{name}.json").write_text(schema_text(name), encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "schemas")
