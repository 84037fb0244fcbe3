"""A Redis server for a local grid: TLS, and a user with a password of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from typing import Final

from htcgrid.private_files import write_private
from htcgrid_local.certificates import make_certificate
from htcgrid_local.emulator import HOST, inherited_environment
from htcgrid_local.errors import NotInstalledError
from htcgrid_local.home import Home
from htcgrid_local.private_files import make_private_folder
from htcgrid_local.processes import Processes

NAME: Final = "redis"
_USER: Final = "grid"
_PROGRAMS: Final = ("valkey-server", "redis-server")


def redis_program() -> str:
    """The program that serves Redis.

    Raises:
        NotInstalledError: there is none.
    """
    for program in _PROGRAMS:
        if found := shutil.which(program):
            return found
    raise NotInstalledError(
        "A grid with Redis needs the program redis-server or valkey-server: on Debian and Ubuntu, "
        "`apt-get install redis-server` brings it."
    )


def start_redis(processes: Processes, home: Home) -> dict[str, str]:
    """Start a server, and return the settings with which agents reach it.

    Raises:
        NotInstalledError: the program is missing.
    """
    program = redis_program()
    folder = home.redis
    make_private_folder(folder)
    password, port = secrets.token_urlsafe(24), _free_port()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    make_certificate(certificate, key)
    write_private(folder / "password", password)
    # Payloads and nothing else: no scripts, no subscriptions, and no administration but what the server says of itself.
    rights = f"on >{password} ~* -@all +@read +@write -@dangerous +info +@connection"
    write_private(folder / "users.acl", f"user default off\nuser {_USER} {rights}\n")
    settings = {
        "port": "0",
        "tls-port": str(port),
        "bind": HOST,
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-auth-clients": "no",
        "aclfile": str(folder / "users.acl"),
        "dir": str(folder),
        "save": '""',
        "maxmemory": f"{_memory_mb()}mb",
        "maxmemory-policy": "noeviction",
    }
    write_private(folder / "redis.conf", "".join(f"{name} {value}\n" for name, value in settings.items()))
    processes.start(
        NAME, [program, folder / "redis.conf"], environment=inherited_environment(), log=home.log(NAME), folder=folder
    )
    return {
        "url": f"rediss://{HOST}:{port}",
        "user": _USER,
        "auth": "file",
        "password_file": str(folder / "password"),
        "ca_file": str(certificate),
    }


def _memory_mb() -> int:
    """A quarter of the machine's memory."""
    return max(64, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4 // (1024 * 1024))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])
