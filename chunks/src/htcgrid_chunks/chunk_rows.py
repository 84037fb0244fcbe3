"""The row of a chunk: how its attributes are written and read."""

import json
import logging
import re
from typing import TYPE_CHECKING

from htcgrid_chunks.attributes import Item, binary, number, text
from htcgrid_chunks.chunk import Chunk, ChunkKey, Payload
from htcgrid_chunks.history import decode_history
from htcgrid_chunks.state import ChunkState
from htcgrid_dataplane import DEFAULT_STORE, encode_lines
from htcgrid_events import MAX_STORED_BYTES, STORE_NAME, FailureKind, OutcomeCode, Stages, TaskError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

_LOG = logging.getLogger(__name__)
_STORE = re.compile(STORE_NAME)
_TOO_MANY = 1 << 31
"""Attempts that no chunk comes to."""
_LOST = "What the grid knew of this task was damaged, so its outcome is lost: submit it anew."


def key_attributes(key: ChunkKey) -> "dict[str, AttributeValueTypeDef]":
    """The key of a chunk's row, and of what other tables hold of the chunk."""
    return {"bucket": text(key.partition_key), "chunk": number(key.chunk)}


def row_key(key: ChunkKey) -> "list[AttributeValueTypeDef]":
    """The key of a chunk's row, as parameters of a statement."""
    return list(key_attributes(key).values())


def new_row(chunk: Chunk) -> "dict[str, AttributeValueTypeDef]":
    """The attributes of a chunk that is inserted."""
    attributes: dict[str, AttributeValueTypeDef] = {
        **key_attributes(chunk.key),
        "tenant": text(chunk.tenant),
        "state": text(chunk.state),
        "attempt": number(chunk.attempt),
        "claimable_at": number(chunk.claimable_at),
        "first_task": number(chunk.first_task),
        "size": number(chunk.size),
        "submitted_at": number(chunk.stages.submitted_at),
        "expires_at": number(chunk.expires_at),
    }
    if chunk.inputs.data is not None:
        attributes["inputs"] = binary(chunk.inputs.data)
    if chunk.inputs.stored_bytes is not None:
        attributes["inputs_bytes"] = number(chunk.inputs.stored_bytes)
        if chunk.inputs.store != DEFAULT_STORE:
            attributes["inputs_store"] = text(chunk.inputs.store)
    return attributes


def stored_results(results: Payload, attempt: int, before: str) -> "list[tuple[str, AttributeValueTypeDef]]":
    """The attributes that hold the results of an attempt, or say where they lie. `before` is the store that the row
    named until now: only where one is not the default the row names any."""
    if results.data is not None:
        return [("results", binary(results.data))]
    if results.stored_bytes is None:
        return []
    where: list[tuple[str, AttributeValueTypeDef]] = [
        ("results_bytes", number(results.stored_bytes)),
        ("results_attempt", number(attempt)),
    ]
    if {results.store, before} != {DEFAULT_STORE}:
        where.append(("results_store", text(results.store)))
    return where


def chunk_of(key: ChunkKey, item: Item) -> Chunk:
    """The chunk that a row describes.

    Agents write much of a row, and one that somebody took over may write anything. A chunk whose row cannot be read has
    failed: what says whose it is and which tasks it holds no agent can write, so its session gets its verdict.
    """
    try:
        chunk = _read(key, item)
    except (AttributeError, KeyError, TypeError, ValueError):
        return _damaged(key, item)
    return chunk if _is_sound(chunk) else _damaged(key, item)


def _is_sound(chunk: Chunk) -> bool:
    codes = set(chunk.outcomes)
    return (
        len(chunk.outcomes) == chunk.size
        and codes <= set(OutcomeCode)
        and not (chunk.finished and OutcomeCode.OPEN in codes)
        and 0 <= chunk.attempt < _TOO_MANY
        and 0 <= chunk.results_attempt < _TOO_MANY
        and 0 <= (chunk.results.stored_bytes or 0) <= MAX_STORED_BYTES
        and _STORE.fullmatch(chunk.results.store) is not None
        and all(isinstance(count, int) for count in chunk.tries.values())
    )


def _damaged(key: ChunkKey, item: Item) -> Chunk:
    ids = {"bucket": key.partition_key, "chunk": key.chunk}
    _LOG.error("the row of a chunk cannot be read: its tasks failed", extra=ids)
    size = item.number("size")
    error = TaskError(kind=FailureKind.LOST, type="Row.Damaged", message=_LOST)
    return Chunk(
        key=key,
        tenant=item.text("tenant"),
        state=ChunkState.FINISHED,
        first_task=item.number("first_task"),
        size=size,
        # Above all that a redrive can have seen of it, or it would not be counted again.
        attempt=_TOO_MANY,
        inputs=_payload(item, "inputs"),
        inputs_edition=item.text("inputs_edition"),
        outcomes=OutcomeCode.FAILED.value * size,
        results=Payload(encode_lines([error.model_dump_json().encode()] * size)),
        stages=Stages(submitted_at=item.number("submitted_at")),
        expires_at=item.number("expires_at"),
    )


def _read(key: ChunkKey, item: Item) -> Chunk:
    size = item.number("size")
    return Chunk(
        key=key,
        tenant=item.text("tenant"),
        state=ChunkState(item.text("state")),
        first_task=item.number("first_task"),
        size=size,
        attempt=item.number("attempt"),
        inputs=_payload(item, "inputs"),
        inputs_edition=item.text("inputs_edition"),
        outcomes=item.text("outcomes", OutcomeCode.OPEN.value * size),
        results=_payload(item, "results"),
        results_attempt=item.number("results_attempt"),
        tries={int(offset): count for offset, count in json.loads(item.text("tries", "{}")).items()},
        history=decode_history(item.binary("history")),
        returned=item.number("returned"),
        progressed=item.number("progressed"),
        redeliveries=item.number("redeliveries"),
        redelivered_attempt=item.number("redelivered_attempt", -1),
        owner=item.text("owner"),
        function_digests=tuple(item.text("function_digests").split()),
        claimable_at=item.number("claimable_at"),
        message_id=item.text("message_id"),
        stages=Stages(
            submitted_at=item.number("submitted_at"),
            queued_at=item.number("queued_at"),
            claimed_at=item.number("claimed_at"),
            started_at=item.number("started_at"),
            finished_at=item.number("finished_at"),
        ),
        expires_at=item.number("expires_at"),
    )


def _payload(item: Item, name: str) -> Payload:
    stored = f"{name}_bytes"
    if stored not in item:
        return Payload(item.binary(name))
    return Payload(item.binary(name), item.number(stored), item.text(f"{name}_store", DEFAULT_STORE))
