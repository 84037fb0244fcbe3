"""How a worker of `python_runtime.py` is given many tasks in one message, and tells of the end of each as it comes.

The worker begins as an HTTP client of the Runtime API that asks for another protocol. Then a batch is a line of JSON
that says what its tasks share, and two lines per task: its client context and its event, both JSON. The worker answers
with frames: a head (see `HEAD`) and a body.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from htcgrid_agent.runtimes.python_runtime import (
    HEAD,
    PATH,
    PROTOCOL,
)
from htcgrid_agent.work.task import Batch
from htcgrid_events import MAX_TASK_BYTES, task_id

BATCHES = PATH.encode()
SWITCHING = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n".encode()
MAX_BODY = MAX_TASK_BYTES + 1024 * 1024
"""Beyond this a body is counted and not kept."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What a worker says."""

    kind: bytes
    """One of the kinds in `python_runtime.py`."""
    body: bytes
    """Empty if it is too large to be kept."""
    size: int
    seconds: float
    """How long the task ran."""


class FrameReader:
    """Takes a worker's bytes as they come and makes frames of them."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._needed = HEAD.size
        self._dropping = 0
        """Bytes still to come of a body that is not kept."""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now."""
        if self._dropping:
            dropped = min(self._dropping, len(data))
            self._dropping -= dropped
            data = data[dropped:]
        self._unread += data
        if len(self._unread) < self._needed:
            return
        whole = bytes(self._unread)
        self._unread.clear()
        yield from self._split(whole)

    def _split(self, whole: bytes) -> Iterator[Frame]:
        start = 0
        while len(whole) - start >= HEAD.size:
            kind, size, microseconds = HEAD.unpack_from(whole, start)
            body = start + HEAD.size
            if size > MAX_BODY:
                yield Frame(kind, b"", size, microseconds / 1e6)
                self._dropping = max(0, body + size - len(whole))
                start = min(body + size, len(whole))
                continue
            if body + size > len(whole):
                self._unread += whole[start:]
                self._needed = HEAD.size + size
                return
            yield Frame(kind, whole[body : body + size], size, microseconds / 1e6)
            start = body + size
        self._unread += whole[start:]
        self._needed = HEAD.size


def encode_batch(batch: Batch, arn: str) -> bytes:
    """A batch as a worker reads it."""
    lines = []
    for task in batch.tasks:
        lines.append(client_context(batch, task.number).encode())
        lines.append(task.event)
    body = b"\n".join(lines)
    shared = {
        "arn": arn,
        "trace": trace_header(batch),
        "timeout_seconds": batch.timeout_seconds,
        "bytes": len(body),
    }
    return json.dumps(shared).encode() + b"\n" + body


def client_context(batch: Batch, number: int) -> str:
    """What a handler finds under `context.client_context`, as JSON."""
    # Put together by hand, since there is one for each task and none of the parts needs quoting.
    return (
        f'{{"custom":{{"htcgrid_session_id":"{batch.session_id}",'
        f'"htcgrid_task_id":"{task_id(batch.session_id, number)}","htcgrid_attempt":"{batch.attempt}"}}}}'
    )


def trace_header(batch: Batch) -> str:
    """The tasks of a session share a trace: its id is the session's, with a made-up time in front, as X-Ray wants."""
    return f"Root=1-{batch.session_id[:8]}-{batch.session_id[8:]};Sampled=0"
