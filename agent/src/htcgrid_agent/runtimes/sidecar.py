"""Workers in another container of the pod, kept running there by `worker_entrypoint.sh`.

The two share the loopback and a folder. In it each worker has two named pipes: on `<number>.orders` the agent says
`kill`, on `<number>.news` the entrypoint says `function <digest>`, `started` and `exited <code>`. So the agent can stop
a task there without sharing process numbers, and nobody has to poll: both sides wait in a read.

The two have users of their own and a group in common, which owns the folder. User code runs as the other user: what
lies in the folder may be its work, so nothing there is followed, believed to be a pipe, or read without a bound.
"""

import asyncio
import contextlib
import errno
import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from htcgrid_agent.errors import BadSettings
from htcgrid_agent.runtimes.function_digest import DIGEST_DIGITS
from htcgrid_agent.runtimes.launcher import Exit
from htcgrid_agent.runtimes.peer import Peer
from htcgrid_agent.runtimes.permits import Permits

_FUNCTION = re.compile(b"function ([0-9a-f]{%d})" % DIGEST_DIGITS)
_ASK_EVERY = 1.0
"""Seconds between looks for the other container while a task runs whose runtime holds no connection."""
_MODE = 0o660
"""Of a pipe: for the users of both containers, which have a group in common."""
_LONGEST_LINE = 256
"""Bytes: twice what the entrypoint ever says at a time."""
_PIPE_HOLDS = 1024 * 1024
"""Bytes: Linux lets no user make a pipe larger than that."""
_LOG = logging.getLogger(__name__)


class Pod:
    """Launches nothing: waits for runtimes that connect to fixed ports.

    Raises:
        BadSettings: the pipes cannot be made in the folder, or it holds something else by their names.
    """

    own = False

    def __init__(
        self, folder: Path, workers: int, first_port: int, answers_text: bool, function_digest: str = ""
    ) -> None:
        self.answers_text = answers_text
        self.function_digest = function_digest
        """That of the agent's own function folder, until a container with workers tells its own."""
        self._folder = folder
        self._first_port = first_port
        self._news = [_news(folder, number) for number in range(workers)]
        self._places: dict[int, _Place] = {}

    def port(self, number: int) -> int:
        """See `Launcher`."""
        return self._first_port + number

    async def launch(self, number: int, runtime_api: str, permits: Permits) -> "ExternalRuntime":
        """See `Launcher`."""
        place = self._places.get(number)
        if place is None:
            place = _Place(self._folder, number, self._news[number], self._has_function)
            self._places[number] = place
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

    def tasks_begin(self, ids: Mapping[str, object], tasks: int) -> None:
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
    def __init__(self, folder: Path, number: int, news: int, has_function: Callable[[str], None]) -> None:
        self._has_function = has_function
        self.end: asyncio.Future[Exit] | None = None
        """To be told of the end of the runtime that is there now."""
        self._number = number
        self._orders = folder / f"{number}.orders"
        self._news = news
        self._unread = b""
        self.began = False
        """Whether the runtime that is there now began while this agent was there."""
        self._complained = False
        # What was said before this agent began is about runtimes that found no agent, but of the same function.
        with contextlib.suppress(BlockingIOError):
            while len(self._unread) < _PIPE_HOLDS:
                self._unread += os.read(self._news, 65_536)
        for line in self._unread.split(b"\n"):
            self._understood_function(line)
        self._unread = b""
        asyncio.get_running_loop().add_reader(self._news, self._read)

    def order(self, word: str) -> None:
        """Tell the entrypoint to act. If nobody reads, its container is gone, and all that ran in it."""
        try:
            orders = _open_pipe(self._orders, os.O_WRONLY)
            try:
                os.write(orders, f"{word}\n".encode())
            finally:
                os.close(orders)
        except OSError as error:
            if error.errno != errno.ENXIO:
                self._complain("the entrypoint of the workers cannot be told to %s: %s", word, error)
            self._ends(Exit(None))

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._unread += os.read(self._news, 65_536)
        *lines, self._unread = self._unread.split(b"\n")
        if len(self._unread) > _LONGEST_LINE:
            lines.append(self._unread)
            self._unread = b""
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
                self._complain("the worker's entrypoint said what it never says: %r", line[:80])

    def _understood_function(self, line: bytes) -> bool:
        digest = _FUNCTION.fullmatch(line)
        if digest:
            self._has_function(digest[1].decode())
        return digest is not None

    def _complain(self, message: str, *about: object) -> None:
        """Warn, once: user code may be behind it, and could fill the log."""
        if not self._complained:
            self._complained = True
            _LOG.warning(message, *about, extra={"worker": self._number})

    def _ends(self, end: Exit) -> None:
        if self.end and not self.end.done():
            self.end.set_result(end)


def _news(folder: Path, number: int) -> int:
    """Make the pipes of a place, and open the one on which the entrypoint speaks."""
    news = folder / f"{number}.news"
    try:
        _make_pipe(folder / f"{number}.orders")
        _make_pipe(news)
        # Open for writing too, so that it does not end when the other container does.
        return _open_pipe(news, os.O_RDWR)
    except OSError as error:
        raise BadSettings(
            f"HTCGRID_WORKER_DIR: {folder} must be a folder in which the agent and the workers' container can make "
            f"pipes, and hold nothing else by their names: {error}."
        ) from error


def _make_pipe(path: Path) -> None:
    """Make the pipe unless it is there: whichever container comes first makes it."""
    if path.is_fifo():
        return
    # Whole before it has its name, whatever the umask: the other container may open it at once.
    new = path.with_name(f"{path.name}.{os.getpid()}")
    os.mkfifo(new)
    try:
        new.chmod(_MODE)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(new)
    finally:
        new.unlink()


def _open_pipe(path: Path, direction: int) -> int:
    """Open a pipe without waiting for its other end.

    Raises:
        OSError: there is none, or something else has its name.
    """
    descriptor = os.open(path, direction | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a pipe", str(path))
    return descriptor
