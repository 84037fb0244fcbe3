"""Workers in another container of the pod, kept running there by `worker_entrypoint.sh`.

The two share the loopback and a folder. In it each worker has two named pipes: on `<number>.orders` the agent says
`kill`, on `<number>.news` the entrypoint says `function <digest>`, `started` and `exited <code>`. So the agent can stop
a task there without sharing process numbers, and nobody has to poll: both sides wait in a read.
"""

import asyncio
import contextlib
import errno
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from htcgrid_agent.runtimes.function_digest import DIGEST_DIGITS
from htcgrid_agent.runtimes.launcher import Exit
from htcgrid_agent.runtimes.peer import Peer
from htcgrid_agent.runtimes.permits import Permits

_FUNCTION = re.compile(b"function ([0-9a-f]{%d})" % DIGEST_DIGITS)
_ASK_EVERY = 1.0
"""Seconds between looks for the other container while a task runs whose runtime holds no connection."""
_LOG = logging.getLogger(__name__)


class Pod:
    """Launches nothing: waits for runtimes that connect to fixed ports."""

    own = False

    def __init__(self, folder: Path, first_port: int, answers_text: bool, function_digest: str = "") -> None:
        self.answers_text = answers_text
        self.function_digest = function_digest
        """That of the agent's own function folder, until a container with workers tells its own."""
        self._folder = folder
        self._first_port = first_port
        self._places: dict[int, _Place] = {}

    def port(self, number: int) -> int:
        """See `Launcher`."""
        return self._first_port + number

    async def launch(self, number: int, runtime_api: str, permits: Permits) -> "ExternalRuntime":
        """See `Launcher`."""
        place = self._places.get(number)
        if place is None:
            place = self._places[number] = _Place(self._folder, number, self._has_function)
        return ExternalRuntime(place)

    def _has_function(self, digest: str) -> None:
        self.function_digest = digest


class ExternalRuntime:
    """What runs, or will run, in one place of the other container, up to its next end."""

    def __init__(self, place: "_Place") -> None:
        self._place = place
        self._end: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._asking: asyncio.TimerHandle | None = None
        place.end = self._end

    def kill(self) -> None:
        """See `Running`."""
        if not self._end.done():
            self._place.order("kill")

    def tasks_begin(self, ids: Mapping[str, object]) -> None:
        """See `Running`. The words of a runtime there stay there."""

    def met(self) -> None:
        """See `Running`."""
        self._place.began = True
        self._ask_no_more()

    def owns(self, peer: Peer | None) -> bool:
        """See `Running`. The processes of another container cannot be seen: all of the pod is trusted."""
        return True

    def lost_touch(self) -> None:
        """See `Running`. The entrypoint will say how the runtime ended, unless its container goes with it."""
        self._ask_no_more()
        if not self._end.done():
            self._place.order("ping")
            # A container does not end all at once, and some runtimes make a connection for each request.
            self._asking = asyncio.get_running_loop().call_later(_ASK_EVERY, self.lost_touch)

    async def ended(self) -> Exit:
        """See `Running`."""
        try:
            return await self._end
        finally:
            self._ask_no_more()

    def _ask_no_more(self) -> None:
        if self._asking:
            self._asking.cancel()
            self._asking = None


class _Place:
    def __init__(self, folder: Path, number: int, has_function: Callable[[str], None]) -> None:
        self._has_function = has_function
        self.end: asyncio.Future[Exit] | None = None
        """To be told of the end of the runtime that is there now."""
        self._orders = _pipe(folder / f"{number}.orders")
        # Open for writing too, so that it does not end when the other container does.
        self._news = os.open(_pipe(folder / f"{number}.news"), os.O_RDWR | os.O_NONBLOCK)
        self._unread = b""
        self.began = False
        """Whether the runtime that is there now began while this agent was there."""
        # What was said before this agent began is about runtimes that found no agent, but of the same function.
        with contextlib.suppress(BlockingIOError):
            while said := os.read(self._news, 65_536):
                self._unread += said
        for line in self._unread.split(b"\n"):
            self._understood_function(line)
        self._unread = b""
        asyncio.get_running_loop().add_reader(self._news, self._read)

    def order(self, word: str) -> None:
        """Tell the entrypoint to act. If nobody reads, its container is gone, and all that ran in it."""
        try:
            orders = os.open(self._orders, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            self._ends(Exit(None))
            return
        try:
            os.write(orders, f"{word}\n".encode())
        finally:
            os.close(orders)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._unread += os.read(self._news, 65_536)
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            word, _, code = line.decode(errors="replace").partition(" ")
            if word == "started":
                self.began = True
            elif self._understood_function(line):
                continue
            elif word == "exited" and code.isascii() and code.isdigit():
                # The end of a runtime that began before this agent says nothing about the handler.
                if self.began:
                    # A shell tells of a signal as 128 and its number.
                    number = int(code)
                    self._ends(Exit(128 - number if 128 < number < 192 else number))
            else:
                _LOG.warning("the worker's entrypoint said what it never says: %r", line[:80])

    def _understood_function(self, line: bytes) -> bool:
        digest = _FUNCTION.fullmatch(line)
        if digest:
            self._has_function(digest[1].decode())
        return digest is not None

    def _ends(self, end: Exit) -> None:
        if self.end and not self.end.done():
            self.end.set_result(end)


def _pipe(path: Path) -> Path:
    # Whichever container comes first makes it.
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    return path
