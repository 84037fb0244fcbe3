"""A real Redis server of a test's own: TLS, a user with a password, and no other way in."""

import datetime
import ipaddress
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
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROGRAM = shutil.which("valkey-server") or shutil.which("redis-server")
USER = "grid"


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
    port: int = field(default_factory=lambda: free_port())
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        if not self.certificate.exists():
            make_certificate(self.certificate, self.folder / "key.pem")
        (self.folder / "users.acl").write_text(
            f"user default off\nuser {USER} on >{self.password} ~* +@all -@dangerous +info +cluster\n"
        )
        assert PROGRAM is not None
        self.process = subprocess.Popen(
            [
                PROGRAM, "--port", "0", "--tls-port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.folder / "key.pem"),
                "--tls-ca-cert-file", str(self.certificate), "--tls-auth-clients", "no", "--dir", str(self.folder),
                "--aclfile", str(self.folder / "users.acl"), "--logfile", str(self.folder / "log"), *self.settings,
            ]
        )  # fmt: skip
        client = self.client()
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
        client.close()

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def client(self, password: str | None = None, certificate: Path | None = None) -> redis.Redis:
        """A client that does not retry by itself."""
        return redis.Redis(
            host="127.0.0.1", port=self.port, username=USER, password=password or self.password, ssl=True,
            ssl_ca_certs=str(certificate or self.certificate), retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
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


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def make_certificate(certificate: Path, key: Path) -> None:
    """One that signs itself, for the loopback."""
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis of a test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(secret, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.touch(0o600)
    key.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
