"""Payloads that lie in another store than the one to which an agent writes."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from agent.tests.embedded import until
from agent.tests.harness import TENANT, Place, Session

from htcgrid_chunks.chunk import Chunk, Payload
from htcgrid_chunks.clock import system_clock
from htcgrid_chunks.state import ChunkState
from htcgrid_dataplane import PayloadStore, decode_lines, encode_lines, input_key, result_key
from htcgrid_dataplane.filesystem import FilesystemStore
from htcgrid_events import OutcomeCode, Stages, new_id

LARGE = "".join(random.Random(1).choices("0123456789abcdef", k=40_000))
"""Too large for a row, compressed as well."""


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    folder = tmp_path / "mount"
    FilesystemStore.prepare(folder)
    return folder


def submit(place: Place, store: PayloadStore, name: str, *events: Sequence[object]) -> Session:
    """A session whose inputs lie in `store`, which rows note by its name."""
    session = Session(new_id(), [len(each) for each in events])
    first = 0
    for number, each in enumerate(events):
        data = encode_lines([json.dumps(event).encode() for event in each])
        store.put(input_key(TENANT, session.session_id, number), data)
        row = Chunk(
            session.key(number), TENANT, ChunkState.QUEUED, first, len(each), 0,
            Payload(stored_bytes=len(data), store=name), OutcomeCode.OPEN.value * len(each),
            stages=Stages(submitted_at=system_clock()), expires_at=system_clock() // 1000 + 3600,
        )  # fmt: skip
        place.store.insert([row])
        place.send(session, number)
        first += len(each)
    return session


def results(place: Place, store: PayloadStore, session: Session) -> list[bytes]:
    [outcome] = place.finished(session)
    assert outcome.stored_bytes is not None
    key = result_key(TENANT, session.session_id, 0, outcome.attempt)
    return decode_lines(store.get(key, outcome.stored_bytes), outcome.size)


def test_an_agent_reads_where_a_payload_lies_and_writes_where_it_is_told(place: Place, mount: Path) -> None:
    echo = {"do": "echo", "value": LARGE}
    settings = {"folder": str(mount)}
    session = submit(place, FilesystemStore(mount), "filesystem", [echo])
    place.agent(former_stores={"filesystem": settings})
    assert results(place, place.payloads, session) == [json.dumps(LARGE).encode()]
    assert place.row(session).results.store == "s3"
    place.close_agents()
    session = submit(place, place.payloads, "s3", [echo])
    place.agent(store="filesystem", store_settings=settings)
    assert results(place, FilesystemStore(mount), session) == [json.dumps(LARGE).encode()]
    assert place.row(session).results.store == "filesystem"


def test_a_chunk_in_a_store_that_is_not_known_waits_and_the_log_says_why_once(place: Place, mount: Path) -> None:
    session = submit(place, FilesystemStore(mount), "filesystem", [{"do": "echo", "value": LARGE}])
    agent = place.agent()
    until(lambda: place.row(session).attempt >= 2)
    told = [line["message"] for line in agent.log_lines if line["level"] == "ERROR"]
    assert [message for message in told if "HTCGRID_FORMER_STORES" in message] == told
    assert len(told) == 1
    assert "'filesystem'" in told[0]
    agent.end()
    row = place.row(session)
    assert (row.outcomes, row.tries, row.history) == ("Q", {}, {})
    place.agent(former_stores={"filesystem": {"folder": str(mount)}})
    assert results(place, place.payloads, session) == [json.dumps(LARGE).encode()]


def test_an_agent_whose_store_cannot_be_opened_receives_nothing(place: Place, tmp_path: Path) -> None:
    agent = place.agent(store="filesystem", store_settings={"folder": str(tmp_path / "nothing")})
    assert agent.process.wait(60) == 2
    [said] = [line for line in agent.log.read_text().splitlines() if line.startswith("htcgrid-agent: ")]
    assert "cannot be opened as a payload store" in said
