"""A Redis server for a local grid: TLS, and a user with a password of its own."""

from __future__ import annotations

import ipaddress
import os
import secrets
import shutil
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from htcgrid.private_files import write_private
from htcgrid_local.emulator import HOST, inherited_environment
from htcgrid_local.errors import NotInstalledError
from htcgrid_local.home import Home
from htcgrid_local.private_files import make_private_folder
from htcgrid_local.processes import Processes

NAME: Final = "redis"
STORE_WITH_REDIS: Final = "s3+redis"
"""The store that needs one."""
_USER: Final = "grid"
_PROGRAMS: Final = ("valkey-server", "redis-server")
_VALID: Final = timedelta(days=365)


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
    _make_certificate(certificate, key)
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


def _make_certificate(certificate: Path, key: Path) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Redis of a local grid")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    write_private(certificate, signed.public_bytes(pem).decode())
    write_private(key, secret.private_bytes(pem, pkcs8, plain).decode())
