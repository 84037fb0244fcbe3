"""Which process is at the other end of a connection on this host.

The kernel tells the user and the inode of exactly one socket through netlink (`sock_diag`, about 40 µs), any user may
ask. Where netlink is closed, `/proc/net/tcp` lists all sockets (milliseconds). A process owns a socket while its inode
is among its open files.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from htcgrid_agent.errors import BadSettings

Address = tuple[str, int]

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")
_PORTS = struct.Struct("!HH")
_ANSWER = struct.Struct("=II")
_ANSWER_OFFSET = 16 + 64
"""Where user and inode are in a `struct inet_diag_msg` after its header (linux/inet_diag.h)."""
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_MAPPED = "0000000000000000FFFF0000"
"""Before an IPv4 address in the table of IPv6 sockets, which some runtimes use for both."""


@dataclass(frozen=True)
class Peer:
    """The socket at the other end."""

    user: int
    inode: int

    @property
    def process(self) -> int | None:
        """A process that has it open, found among all that can be seen."""
        return next((process for process in _processes() if _has_open(process, self.inode)), None)


def check_host() -> None:
    """Make sure that this host tells who connects.

    Raises:
        BadSettings: it does not, so that workers could not be told from other processes.
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        found = find(client.getsockname(), server.getsockname())
        if found is None or not is_in_tree(os.getpid(), found):
            raise BadSettings(
                "This host does not tell which process has connected to the Runtime API, neither by netlink nor by "
                "/proc/net/tcp and /proc/<process>/fd: run workers in another container (HTCGRID_WORKER_DIR)."
            )


def find(theirs: Address, ours: Address) -> Peer | None:
    """The socket at `theirs` (IPv4) that is connected to `ours`; none if it is closed or not on this host."""
    try:
        user, inode = _ask(theirs, ours)
    except OSError:
        user, inode = _look_up(theirs, ours)
    return Peer(user, inode) if inode else None


def is_in_tree(root: int, peer: Peer, own_user: int | None = None) -> bool:
    """Whether the process `root`, or one that it started, has the socket open.

    `own_user` is the tree's user, if it has one. Where the agent may not look into his processes, as a root without
    CAP_SYS_PTRACE may not, his sockets are taken to be the tree's.
    """
    processes = list(_tree(root))
    if any(_has_open(process, peer.inode) for process in processes):
        return True
    if peer.user == own_user and any(_is_closed(process) for process in processes):
        return True
    # Lists of children lack some while others end. This takes longer, so no stranger of another user can cause it.
    mine = os.geteuid() if own_user is None else own_user
    return peer.user == mine and any(_has_open(process, peer.inode) for process in _tree_by_parents(root))


def _ask(theirs: Address, ours: Address) -> tuple[int, int]:
    request = (
        _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _ANY_STATE)
        + _PORTS.pack(theirs[1], ours[1])
        + socket.inet_aton(theirs[0]).ljust(16, b"\0")
        + socket.inet_aton(ours[0]).ljust(16, b"\0")
        + bytes(4)
        + _NO_COOKIE
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(1)
        netlink.send(_HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + request)
        answer = netlink.recv(8_192)
    if _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        # No such socket, unless the kernel cannot be asked at all: the table tells.
        raise OSError("the kernel has no answer")
    user, inode = _ANSWER.unpack_from(answer, _ANSWER_OFFSET)
    return user, inode


def _look_up(theirs: Address, ours: Address) -> tuple[int, int]:
    ends = [_in_table(theirs), _in_table(ours)]
    for table in _TABLES:
        with suppress(OSError), Path(table).open(encoding="ascii") as lines:
            for line in lines:
                columns = line.split()
                if [end.removeprefix(_MAPPED) for end in columns[1:3]] == ends:
                    return int(columns[7]), int(columns[9])
    return 0, 0


def _in_table(address: Address) -> str:
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))
    return f"{number:08X}:{address[1]:04X}"


def _has_open(process: int, inode: int) -> bool:
    wanted = Path(f"socket:[{inode}]")
    with suppress(OSError):
        for file in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                if file.readlink() == wanted:
                    return True
    return False


def _is_closed(process: int) -> bool:
    try:
        # Root may list the files of other users even where it may not see what they are.
        for file in Path(f"/proc/{process}/fd").iterdir():
            file.readlink()
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _tree(root: int) -> Iterator[int]:
    found = [root]
    for process in found:
        yield process
        with suppress(OSError):
            for thread in Path(f"/proc/{process}/task").iterdir():
                with suppress(OSError):
                    found += map(int, (thread / "children").read_text().split())


def _tree_by_parents(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for process in _processes():
        with suppress(OSError):
            parent = int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(process)
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def _processes() -> Iterator[int]:
    return (int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit())
