"""The folder in which a node keeps shared data, and who may see what of it.

    secret      names depend on it, so that no handler can tell those of another tenant; the agents' alone
    lock        held while room is made, or the folder is set up
    items/      a file per item: its lock; its length is the item's, its time that of the last use
    incoming/   what is being fetched or removed, by the item's name
    files/      a folder per item, in which the file or folder lies under its own name: workers see this alone

Nobody can list `files`, not even its owner: who knows no name finds nothing. The agents of a node, which have one user,
share the folder. After a restart of the node it begins empty, since a file that was not flushed may be damaged then.
"""

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from htcgrid_agent.errors import BadSettings

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_NAME_DIGITS: Final = 40
_ENTERED_ONLY: Final = 0o311
"""Of `files`: all may go through it, none may list it, its owner may add to it."""
_OWNERS: Final = 0o700


class DataFolder:
    """Knows where what lies.

    Raises:
        BadSettings: the folder cannot be used; the message says why.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = root / "files"
        self.items = root / "items"
        self._incoming = root / "incoming"
        try:
            self._secret = self._set_up()
        except OSError as error:
            raise BadSettings(
                f"HTCGRID_DATA_DIR: {root} must be a folder that agents of one user alone write to: {error}."
            ) from error

    def name(self, tenant: str, sha256: str, *, folder: bool) -> str:
        """What an item of a tenant is called here. Nobody can guess it who does not know the secret."""
        what = f"{tenant}/{sha256}/{int(folder)}".encode()
        return hmac.new(self._secret, what, hashlib.sha256).hexdigest()[:_NAME_DIGITS]

    def place(self, name: str) -> Path:
        """Where an item lies once all of it is there."""
        return self.files / name

    def item(self, name: str) -> Path:
        """The file that is locked while an item is in use, or is being fetched or removed."""
        return self.items / name

    def incoming(self, name: str) -> Path:
        """Where an item is while it is fetched or removed. For whoever holds its lock alone."""
        return self._incoming / name

    def clear_incoming(self, name: str) -> None:
        """Remove what was left of an item that was being fetched or removed. Its lock must be held alone."""
        remove(self.incoming(name))

    def free_bytes(self) -> int:
        """How many bytes the disk has left for the agent's user."""
        facts = os.statvfs(self.root)
        return facts.f_bavail * facts.f_frsize

    def total_bytes(self) -> int:
        """How many bytes the disk holds."""
        facts = os.statvfs(self.root)
        return facts.f_blocks * facts.f_frsize

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the folder, which nobody holds for long."""
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _set_up(self) -> bytes:
        with contextlib.suppress(FileExistsError):
            self.root.mkdir(parents=True)
            self.root.chmod(0o755)
        # Whoever owns a folder may replace what lies in it. Kubernetes makes those of volumes as root.
        if self.root.stat().st_uid:
            self._check_owner(self.root)
        with self.locked():
            known = self._read_secret()
            if known is None:
                for folder in (self.files, self.items, self._incoming):
                    remove(folder)
                known = secrets.token_bytes(32)
                self._write_secret(known)
            for folder, mode in ((self.items, _OWNERS), (self._incoming, _OWNERS), (self.files, _ENTERED_ONLY)):
                with contextlib.suppress(FileExistsError):
                    folder.mkdir()
                self._check_owner(folder)
                folder.chmod(mode)
        return known

    def _check_owner(self, path: Path) -> None:
        owner = path.lstat().st_uid
        if owner != os.geteuid():
            raise PermissionError(f"{path} belongs to user {owner}, and the agent is user {os.geteuid()}")

    def _read_secret(self) -> bytes | None:
        """The secret, if the node has not been started again since it was made."""
        file = self.root / "secret"
        try:
            self._check_owner(file)
            boot, _, digits = file.read_text().partition(" ")
        except FileNotFoundError:
            return None
        return bytes.fromhex(digits) if boot == _boot_id() and digits else None

    def _write_secret(self, secret: bytes) -> None:
        new = self.root / "secret.new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{_boot_id()} {secret.hex()}")
        new.replace(self.root / "secret")


def short(name: str) -> str:
    """The name of an item as logs show it, which does not tell where it lies."""
    return name[:12]


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, read-only or not; harmless if it is not there."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    path.chmod(_OWNERS)
    for folder, children, _ in os.walk(path):
        for child in children:
            below = Path(folder, child)
            if not below.is_symlink():
                below.chmod(_OWNERS)
    shutil.rmtree(path)


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()
