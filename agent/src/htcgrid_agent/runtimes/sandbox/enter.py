"""`python -I -S enter.py name=value… -- program argument…`: runs a program in a sandbox, and ends as it ended.

    agent ── this process ── process 1 of the sandbox ── program    with namespaces of its own
    agent ── this process ── program                                without

This process ends with the agent, or when the agent sends SIGTERM, and whatever was started in the sandbox ends with
it: in a process namespace the kernel sees to that, elsewhere this process, which inherits all orphans (a sub-reaper).

A worker's start waits for all of this, so it imports little, `signal` (5 ms) not even. `command.py` has the options.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ctypes
import fcntl
import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    # These would double the time to start.
    from collections.abc import Callable, Iterator, Sequence
    from typing import NoReturn

_LIBC = ctypes.CDLL(None, use_errno=True)

_CLONE_NEWNS = 0x00020000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_MS_RDONLY = 0x1
_MS_NOSUID = 0x2
_MS_NODEV = 0x4
_MS_NOEXEC = 0x8
_MS_REMOUNT = 0x20
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_KEPT = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
"""Flags of a mount that may not be taken away; `statvfs` tells of them by the same numbers."""
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64

PRIVATE = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - named to be covered, not to be written to
"""Folders of which each sandbox has its own: one file system in memory, so one bound for all of them."""
_CODE, _SHOWN, _FUNCTION, _HIDDEN = range(4)
"""In this order where two are the same path."""
NOT_ENTERED = 125
"""Exit code when the sandbox could not be made."""
NOT_RUN = 127
"""Exit code when the program could not be run."""
_LOOK_SECONDS = 1.0
"""How often the size of a temporary folder is looked at where no file system bounds it."""


class Options:
    """What the agent asks for: see `command.py`, which writes it."""

    def __init__(self, words: list[str]) -> None:
        end = words.index("--")
        self.program = words[end + 1 :]
        pairs = [word.split("=", 1) for word in words[:end]]
        values = dict(pairs)
        self.parent = int(values["parent"])
        self.namespaces = values["namespaces"] == "1"
        self.memory = int(values["memory"])
        """Most bytes that the program may write to; 0 for no bound."""
        self.disk = int(values["disk"])
        """Most bytes in the folders that are its own."""
        self.processes = int(values["processes"])
        """Most processes and threads of the program's user; 0 for no bound."""
        self.user = int(values["user"])
        """The user and group that the program runs as; -1 for the agent's."""
        self.folder = values["folder"]
        """Where the program starts. With namespaces it cannot be written to."""
        self.temporary = values["temporary"]
        """Made for the program, and removed when it has ended. Only without namespaces."""
        self.code = [value for name, value in pairs if name == "code"]
        """What the program runs on. With namespaces it cannot write to it, or a task could change the agent's code."""
        self.shown = [value for name, value in pairs if name == "show"]
        self.hidden = [value for name, value in pairs if name == "hide"]


def main() -> None:
    """Enter the sandbox, run the program in it, and end as it ended."""
    options = Options(sys.argv[1:])
    waited = {_signal.SIGCHLD, _signal.SIGTERM}
    _signal.pthread_sigmask(_signal.SIG_BLOCK, waited)
    try:
        status = _in_namespaces(options) if options.namespaces else _in_folder(options)
    except OSError as error:
        os.write(2, f"The sandbox cannot be made: {error}.\n".encode())
        os._exit(NOT_ENTERED)
    _end_as(status)


# --- with namespaces ---


def _in_namespaces(options: Options) -> int:
    own_user = 0 if os.geteuid() == 0 else _CLONE_NEWUSER
    user, group = os.geteuid(), os.getegid()
    _check(_LIBC.unshare(own_user | _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWIPC), "unshare")
    if own_user:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    said, say = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(said)
        _as_child(lambda: _be_init(options, say))
    os.close(say)
    _end_with(options.parent, _signal.SIGTERM)
    while True:
        ended, status = os.waitpid(init, os.WNOHANG)
        if ended:
            break
        if _signal.sigwait({_signal.SIGCHLD, _signal.SIGTERM}) == _signal.SIGTERM:
            os.kill(init, _signal.SIGKILL)
    told = os.read(said, 16).strip()
    return int(told) if told else status


def _be_init(options: Options, say: int) -> NoReturn:
    _make_mounts(options)
    _drop_privileges(options.user)
    _LIBC.prctl(_PR_SET_PDEATHSIG, _signal.SIGKILL)
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    # Who waits for this process may have ended before that: then there is nobody to write to.
    os.write(say, b" ")
    program = os.fork()
    if program == 0:
        _as_child(lambda: _be_program(options))
    while True:
        ended, status = os.wait()
        if ended == program:
            os.write(say, str(status).encode())
            # What is left in the namespace ends with its first process.
            os._exit(0)


def _make_mounts(options: Options) -> None:
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    # The program's user must get through the folders that are made on the way to what it is shown.
    umask = os.umask(0o022)
    own = [folder for folder in PRIVATE if os.path.isdir(folder) and not os.path.islink(folder)]
    code = [path for path in options.code if path not in own and path != "/"]
    covered = [*own, *code, options.folder, *options.hidden]
    mounts = [(path, _CODE, _opened(path)) for path in code]
    mounts += [(path, _SHOWN, _opened(path)) for path in options.shown if path in code or _lies_in(path, covered)]
    mounts.append((options.folder, _FUNCTION, _opened(options.folder)))
    mounts += [(path, _HIDDEN, -1) for path in options.hidden]
    base = own[0]
    _mount("tmpfs", base, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={options.disk},mode=0700")
    for number, folder in enumerate(own):
        os.mkdir(f"{base}/{number}")
        os.chmod(f"{base}/{number}", 0o1777)
        if folder != base:
            _mount(f"{base}/{number}", folder, "", _MS_BIND)
    _mount(f"{base}/0", base, "", _MS_BIND)
    # What lies deeper decides: something hidden in a folder that is shown, and the other way round.
    emptied = []
    for path, what, opened in sorted(mounts, key=lambda mount: (mount[0].count("/"), mount[1])):
        if what != _HIDDEN:
            _show(path, opened)
            if what in (_CODE, _FUNCTION):
                _make_read_only(path)
        elif os.path.isdir(path):
            _mount("tmpfs", path, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "size=4k,mode=0755")
            emptied.append(path)
        elif os.path.exists(path):
            _mount("/dev/null", path, "", _MS_BIND)
    for path in emptied:
        _make_read_only(path)
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    os.umask(umask)


def _make_read_only(path: str) -> None:
    _mount("none", path, "", _MS_BIND | _MS_REMOUNT | _MS_RDONLY | os.statvfs(path).f_flag & _KEPT)


def _opened(path: str) -> int:
    return os.open(path, os.O_PATH)


def _show(path: str, opened: int) -> None:
    if os.path.isdir(f"/proc/self/fd/{opened}"):
        os.makedirs(path, exist_ok=True)
        _mount(f"/proc/self/fd/{opened}", path, "", _MS_BIND | _MS_REC)
    elif not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
        _mount(f"/proc/self/fd/{opened}", path, "", _MS_BIND)
        _make_read_only(path)
    os.close(opened)


def _lies_in(path: str, folders: Sequence[str]) -> bool:
    return any(path.startswith(folder + "/") for folder in folders)


# --- without ---


def _in_folder(options: Options) -> int:
    # First: an agent that has ended meanwhile has nobody who would use the folder.
    _end_with(options.parent, _signal.SIGTERM)
    os.mkdir(options.temporary, 0o700)
    _lock(options.temporary)
    if options.user >= 0:
        os.chown(options.temporary, options.user, options.user)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    me = os.getpid()
    program = os.fork()
    if program == 0:
        _as_child(lambda: _be_program_of(options, me))
    status = _wait_for(program, options)
    _kill_descendants()
    _remove(options.temporary)
    return status


def _lock(folder: str) -> None:
    """Have the folder locked for as long as this process lives: by that other agents see that it is in use.

    The program loses the descriptor when it begins.
    """
    try:
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)
    except OSError:
        # Its file system has no locks, so `leftovers.py` leaves it alone as well.
        pass


def _be_program_of(options: Options, parent: int) -> NoReturn:
    _drop_privileges(options.user)
    _end_with(parent, _signal.SIGKILL)
    _be_program(options)


def _wait_for(program: int, options: Options) -> int:
    """Wait for the end of the program, or for the word to end it, and reap all others."""
    while True:
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return int(_signal.SIGKILL)
            if ended == program:
                return status
            if not ended:
                break
        came = _signal.sigtimedwait({_signal.SIGCHLD, _signal.SIGTERM}, _LOOK_SECONDS)
        if came is None:
            if sum(_sizes(options.temporary)) > options.disk:
                os.write(2, f"The temporary folder holds more than {options.disk} bytes.\n".encode())
                return int(_signal.SIGKILL)
        elif came.si_signo == _signal.SIGTERM:
            return int(_signal.SIGKILL)


def _kill_descendants() -> None:
    """Kill all that was started, whatever group or session it is in, until nothing is left."""
    try:
        while True:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
            for process in _descendants():
                try:
                    os.kill(process, _signal.SIGKILL)
                except ProcessLookupError:
                    pass
            os.waitpid(-1, 0)
    except ChildProcessError:
        return


def _descendants() -> list[int]:
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
    found = [os.getpid()]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found[1:]


def _sizes(folder: str) -> Iterator[int]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(entry.path)
                else:
                    yield entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        # It was removed meanwhile, or is closed to the agent's user.
        return


def _remove(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        from shutil import rmtree

        rmtree(folder, ignore_errors=True)


# --- both ---


def _as_child(work: Callable[[], NoReturn]) -> NoReturn:
    """Do the work of a process that was forked, which must never go on as the one that forked it."""
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - a fork must not go on in the place of its parent
        os.write(2, f"The sandbox cannot be made: {error}.\n".encode())
        os._exit(NOT_ENTERED)


def _be_program(options: Options) -> NoReturn:
    # If the host runs out of memory, a worker is to die and not the agent.
    try:
        _write("/proc/self/oom_score_adj", "1000")
    except OSError:
        pass
    if options.memory:
        # What a process may write to; unlike its address space, which runtimes reserve without using it.
        resource.setrlimit(resource.RLIMIT_DATA, (options.memory, options.memory))
    if options.processes and (options.user >= 0 or (options.namespaces and os.geteuid() != 0)):
        # The kernel counts by user and user namespace: elsewhere it would count the agent and its other workers, too.
        resource.setrlimit(resource.RLIMIT_NPROC, (options.processes, options.processes))
    os.chdir(options.folder)
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        # Python ignores these, and what is ignored stays so in the program.
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    try:
        os.execv(options.program[0], options.program)
    except OSError as error:
        os.write(2, f"The program {options.program[0]} cannot be run: {error.strerror}.\n".encode())
        os._exit(NOT_RUN)


def _drop_privileges(user: int) -> None:
    """Take the other user, if there is one, and give up every capability for good: mounts and limits are to stay."""
    for capability in range(_CAPABILITIES):
        _LIBC.prctl(_PR_CAPBSET_DROP, capability)
    if user >= 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    _LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _check(_LIBC.capset(header, (ctypes.c_uint32 * 6)()), "capset")
    _check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def _end_with(parent: int, number: int) -> None:
    # The signal comes when the thread that forked ends, which is the agent's main thread.
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(NOT_ENTERED)


def _end_as(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number != _signal.SIGKILL:
            _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    what = _LIBC.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(what, f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


if __name__ == "__main__":
    main()
