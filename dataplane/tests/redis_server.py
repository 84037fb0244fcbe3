"""A real Redis server of a test's own: TLS, a user with a password, and no other way in."""

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from htcgrid_local.certificates import make_certificate

PROGRAM = shutil.which("valkey-server") or shutil.which("redis-server")
USER = "grid"
ADMIN = "admin"
RIGHTS = "~* -@all +@read +@write -@dangerous +info +@connection +cluster|slots +cluster|shards +cluster|nodes"
"""Those of agents on AWS (template.yaml)."""


def needed() -> None:
    """Skip the test where there is no server, but never in the run that decides."""
    if PROGRAM is None:
        missing = "needs Debian's package redis-server"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)


@dataclass
class Server:
    """One node. It may be ended, killed and started again on the same port."""

    folder: Path
    settings: tuple[str, ...] = ()
    name: str = "redis"
    user: str = USER
    rights: str = RIGHTS
    port: int = field(default_factory=lambda: free_port())
    bus_port: int = field(default_factory=lambda: free_port())
    """By which the nodes of a cluster find each other."""
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        if not self.certificate.exists():
            make_certificate(self.certificate, self.folder / "key.pem")
        acl = self.folder / f"{self.name}.acl"
        acl.write_text(
            f"user default off\nuser {self.user} on >{self.password} {self.rights}\n"
            f"user {ADMIN} on >{self.password} ~* &* +@all\n"
        )
        assert PROGRAM is not None
        self.process = subprocess.Popen(
            [
                PROGRAM, "--port", "0", "--tls-port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.folder / "key.pem"),
                "--tls-ca-cert-file", str(self.certificate), "--tls-auth-clients", "no", "--dir", str(self.folder),
                "--cluster-config-file", f"{self.name}.nodes", "--aclfile", str(acl), "--logfile", str(self.log),
                *self.settings,
            ]
        )  # fmt: skip
        client = self.client()
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert self.process.poll() is None, self.log.read_text()
        client.close()

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def client(
        self,
        password: str | None = None,
        certificate: Path | None = None,
        login: redis.CredentialProvider | None = None,
    ) -> redis.Redis:
        """A client that does not retry by itself."""
        login = login or redis.UsernamePasswordCredentialProvider(self.user, password or self.password)
        return self._client(login, certificate or self.certificate)

    def admin(self) -> redis.Redis:
        """A client that may do all."""
        return self._client(redis.UsernamePasswordCredentialProvider(ADMIN, self.password), self.certificate)

    def _client(self, login: redis.CredentialProvider, certificate: Path) -> redis.Redis:
        return redis.Redis(
            host="127.0.0.1", port=self.port, credential_provider=login, ssl=True,
            ssl_ca_certs=str(certificate), retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        )  # fmt: skip


@contextmanager
def running(folder: Path, *settings: str) -> Iterator[Server]:
    """A server, for as long as the block runs."""
    needed()
    server = Server(folder, settings)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def settings_of(server: Server, **more: str) -> dict[str, str]:
    """How a store reaches a server."""
    password = server.folder / "password"
    password.write_text(server.password)
    return {
        "url": f"rediss://127.0.0.1:{server.port}", "user": server.user, "auth": "file", "password_file": str(password),
        "ca_file": str(server.certificate),
    } | more  # fmt: skip


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
