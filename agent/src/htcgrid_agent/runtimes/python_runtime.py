"""`python -P -m htcgrid_agent.runtimes.python_runtime <handler> [<permits>]`: a Python worker.

All that a handler sees is done by parts of `awslambdaric`, Lambda's own runtime client: how it is loaded, its event and
context, its logs; see `python_loop.py`. With `permits`, the descriptor of an eventfd (see `permits.py`), the worker
takes batches of tasks (see `batch_protocol.py`); without, that client asks for each task as on Lambda.

Runs beside the user's code, so it needs nothing but that client.
"""

import json
import os
import socket
import struct
import sys
import time
import uuid
from collections import deque
from typing import Final

from awslambdaric.lambda_runtime_client import InvocationRequest, LambdaRuntimeClient

from htcgrid_agent.runtimes.python_loop import run

PATH: Final = "/htcgrid/batches"
PROTOCOL: Final = "htcgrid-batches"
HEAD: Final = struct.Struct("!cQQ")
"""The head of a frame: its kind, the length of its body, and how many microseconds the task ran."""
RESULT: Final = b"r"
ERROR: Final = b"e"
NEXT_TASK: Final = b"\0\x1enext task\x1e\0"
"""Written to stderr between the tasks of a batch, so that the agent knows which of them the words before belong to."""
READY: Final = b"n"
"""No task is left: the worker waits for a batch."""


class BatchClient(LambdaRuntimeClient):  # type: ignore[misc]
    """Stands in for the client of the Runtime API."""

    def __init__(self, address: str, permits: int) -> None:
        super().__init__(address)
        self._permits = permits
        # Now: a handler that is loaded may change how sockets are made. And no timeout may come to it.
        self._socket = self._connect()
        self._stderr = os.dup(2)
        self._tasks: deque[tuple[bytes, bytes]] = deque()
        self._unsent = b""
        self._began = 0

    def wait_next_invocation(self) -> InvocationRequest:
        """The next task, as the Runtime API would tell of it."""
        if self._tasks:
            os.write(self._stderr, NEXT_TASK)
        while not (self._tasks and self._is_permitted()):
            self._receive_batch()
        context, event = self._tasks.popleft()
        self._began = time.monotonic_ns()
        return InvocationRequest(
            invoke_id=str(uuid.uuid4()),
            x_amzn_trace_id=self._trace,
            invoked_function_arn=self._arn,
            deadline_time_in_ms=time.time_ns() // 1_000_000 + self._timeout_ms,
            client_context=context,
            cognito_identity=None,
            tenant_id=None,
            content_type="application/json",
            event_body=event,
            invocation_id=None,
        )

    def post_invocation_result(self, invoke_id: str, result_data: str | bytes, *_: object) -> None:
        """The handler returned."""
        self._tell(RESULT, result_data if isinstance(result_data, bytes) else result_data.encode())

    def post_invocation_error(self, invoke_id: str, error_response_data: str, *_: object) -> None:
        """The handler failed."""
        self._tell(ERROR, error_response_data.encode())

    def _is_permitted(self) -> bool:
        try:
            os.eventfd_read(self._permits)
        except BlockingIOError:
            # The agent has given what is left to another worker.
            return False
        return True

    def _tell(self, kind: bytes, body: bytes) -> None:
        microseconds = (time.monotonic_ns() - self._began) // 1000
        frame = HEAD.pack(kind, len(body), microseconds) + body
        if self._tasks:
            # At once: the next task may run for long, or be the last of this process.
            self._socket.sendall(frame)
        else:
            # The word that there is none left follows on its heels.
            self._unsent = frame

    def _receive_batch(self) -> None:
        self._tasks.clear()
        self._socket.sendall(self._unsent + HEAD.pack(READY, 0, 0))
        self._unsent = b""
        line = self._incoming.readline()
        if not line:
            # The agent has ended, and what it gave will be run elsewhere.
            sys.exit(0)
        shared = json.loads(line)
        self._arn = shared["arn"]
        self._trace = shared["trace"]
        self._timeout_ms = shared["timeout_seconds"] * 1000
        lines = self._incoming.read(shared["bytes"]).split(b"\n")
        self._tasks.extend(zip(lines[::2], lines[1::2], strict=True))

    def _connect(self) -> socket.socket:
        host, _, port = self.lambda_runtime_address.rpartition(":")
        connection = socket.create_connection((host, int(port)))
        # A result must not wait for the agent to acknowledge the one before.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._incoming = connection.makefile("rb", buffering=65_536)
        asking = f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n"
        connection.sendall(asking.encode())
        while self._incoming.readline().strip():
            pass
        return connection


def main() -> None:
    """Run the handler's tasks until the agent ends."""
    handler, *permits = sys.argv[1:]
    address = os.environ["AWS_LAMBDA_RUNTIME_API"]
    if not permits:
        run(handler, LambdaRuntimeClient(address))
        return
    descriptor = int(permits[0])
    # What a handler starts has no part in them.
    os.set_inheritable(descriptor, False)
    run(handler, BatchClient(address, descriptor))


if __name__ == "__main__":
    main()
