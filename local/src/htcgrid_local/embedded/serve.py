"""Serves the embedded AWS on listening sockets that this process inherited: `serve.py NUMBER…`."""

import contextlib
import socket
import sys
from collections.abc import Sequence

import uvicorn


def main(numbers: Sequence[str]) -> int:
    """Serve until SIGTERM; the result is an exit code."""
    sockets = [socket.socket(fileno=int(number)) for number in numbers]
    server = uvicorn.Server(
        uvicorn.Config(
            "aws.application:app", loop="uvloop", http="httptools", log_level="warning", timeout_keep_alive=75
        )
    )
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets)
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
