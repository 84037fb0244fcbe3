"""What goes to another machine is encrypted, and checked against one set of certificates."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from connector.tests.stub_grid import StubGrid
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.sync.server import ServerConnection, serve

from htcgrid import Grid, GridUnreachable, ProfileInvalid
from htcgrid._notify.websocket import PushChannel
from htcgrid._transport.http import Http, Patience


@pytest.mark.parametrize("field", ["api_url", "push_url", "aws_endpoint_url"])
def test_no_password_goes_unencrypted_to_another_machine(stub: StubGrid, field: str) -> None:
    with pytest.raises(ProfileInvalid, match=r"http://grid\.example is not encrypted.*allow_unencrypted"):
        Grid.connect(stub.profile(**{field: "http://grid.example"}))
    assert stub.requests == []


def test_it_may_be_asked_for_by_name(stub: StubGrid) -> None:
    with Grid.connect(stub.profile(push_url="ws://grid.example", allow_unencrypted=True), notifications="poll"):
        assert stub.signed_in == 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine that nobody else vouches for, and its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority of a test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("authority") / "certificate.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + secret)
    return path


@pytest.fixture(scope="module")
def server_tls(authority: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    return context


class _Ok(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def https(server_tls: ssl.SSLContext) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Ok) as server:
        server.socket = server_tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def wss(server_tls: ssl.SSLContext) -> Iterator[str]:
    def listen(connection: ServerConnection) -> None:
        for _ in connection:
            pass

    with serve(listen, "127.0.0.1", 0, ssl=server_tls) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"wss://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("trust_environment", [True, False])
def test_the_named_certificates_count_for_requests(
    https: str, authority: Path, monkeypatch: pytest.MonkeyPatch, *, trust_environment: bool
) -> None:
    """The API, uploads, results and signing in: all by one client, with and without proxies."""

    async def status() -> int:
        http = Http(Patience(limit=timedelta(0)), trust_environment=trust_environment)
        try:
            return (await http.send("GET", https)).status_code
        finally:
            await http.close()

    with pytest.raises(GridUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        asyncio.run(status())
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert asyncio.run(status()) == 204


def test_the_named_certificates_count_for_the_push_connection(
    wss: str, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Api:
        async def push_ticket(self, _subscriber: str) -> Any:
            return type("Ticket", (), {"ticket": "ticket"})

    async def fault() -> str:
        channel = PushChannel(wss, Api(), lambda _: None, lambda: None)  # type: ignore[arg-type]
        channel.start()
        await channel.tried()
        try:
            return channel.fault
        finally:
            await channel.close()

    assert "CERTIFICATE_VERIFY_FAILED" in asyncio.run(fault())
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert asyncio.run(fault()) == ""


def test_certificates_that_cannot_be_read_are_named(stub: StubGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    with pytest.raises(GridUnreachable, match="SSL_CERT_FILE"):
        Grid.connect(stub.profile())
