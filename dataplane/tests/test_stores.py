"""A store is opened by its name, and what is wrong with its settings is told."""

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path

import botocore.session
import pytest
from botocore.exceptions import ClientError
from dataplane.tests.redis_server import running, settings_of

from htcgrid_dataplane import PayloadStore, StoreMisconfigured, StoreUnavailable, stores
from htcgrid_dataplane.conformance import StoreConformance
from htcgrid_dataplane.filesystem import FilesystemStore
from htcgrid_dataplane.redis_login import IamToken, SecretPassword
from htcgrid_dataplane.stores import open_store

KEY = "tenant/session/results/0.1"


@pytest.fixture
def s3(tmp_path: Path) -> PayloadStore:
    """In place of the store on S3."""
    FilesystemStore.prepare(tmp_path / "s3")
    return FilesystemStore(tmp_path / "s3")


def test_the_store_on_s3_is_the_grids_own(s3: PayloadStore) -> None:
    assert open_store("s3", {}, s3) is s3


def test_a_file_system_is_opened(tmp_path: Path, s3: PayloadStore) -> None:
    FilesystemStore.prepare(tmp_path / "mount")
    open_store("filesystem", {"folder": str(tmp_path / "mount")}, s3).put(KEY, b"1")
    assert FilesystemStore(tmp_path / "mount").get(KEY, 1) == b"1"


def test_redis_is_opened_with_tls_and_a_password(tmp_path: Path, s3: PayloadStore) -> None:
    with running(tmp_path / "redis") as server:
        open_store("redis", settings_of(server), s3).put(KEY, b"1")
        assert server.client().ttl(KEY) > 86_000
        open_store("s3+redis", settings_of(server, keep_hours="1"), s3).put(f"{KEY}0", b"2")
        assert server.client().ttl(f"{KEY}0") <= 3_600
        assert s3.get(f"{KEY}0", 1) == b"2"


def test_redis_in_front_of_s3_need_not_answer_at_start(tmp_path: Path, s3: PayloadStore) -> None:
    with running(tmp_path / "redis") as server:
        settings = settings_of(server)
    for cluster in ("false", "true"):
        store = open_store("s3+redis", settings | {"cluster": cluster}, s3)
        store.put(f"{KEY}{cluster}", b"1")
        assert store.get(f"{KEY}{cluster}", 1) == b"1"


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("disk", {}, "there is no store 'disk'; there are: filesystem, redis, s3, s3[+]redis"),
        ("s3", {"folder": "/mnt"}, "folder: Extra inputs are not permitted"),
        ("filesystem", {}, "folder must be set, or in its place export_prefix"),
        ("filesystem", {"folder": "/mnt", "keep_days": "0"}, "keep_days: .* greater than or equal to 1"),
        ("filesystem", {"folder": "/mnt", "patience_seconds": "-1"}, "patience_seconds: .* greater than or equal to 0"),
        ("redis", {"url": "127.0.0.1:6379"}, "url: must have the form rediss://host:port"),
        ("redis", {"url": "rediss://me:secret@host"}, "url: must have the form rediss://host:port"),
        ("redis", {"url": "rediss://host", "auth": "file"}, "password_file must be set, since auth is file"),
        ("redis", {"url": "rediss://host", "auth": "iam"}, "cache must be set, since auth is iam"),
        ("redis", {"url": "rediss://host", "auth": "ldap"}, "auth: Input should be 'none', 'file', 'secret' or 'iam'"),
        ("s3+redis", {"url": "rediss://host", "keep_hours": "0"}, "keep_hours: .* greater than or equal to 1"),
        ("redis", {"url": "rediss://host", "keep_days": "397"}, "keep_days: .* less than or equal to 396"),
    ],
)
def test_wrong_settings_are_named(name: str, settings: Mapping[str, str], said: str, s3: PayloadStore) -> None:
    with pytest.raises(StoreMisconfigured, match=said) as refusal:
        open_store(name, settings, s3)
    assert "secret@" not in str(refusal.value)


class Strangers:
    """A store as somebody else would write it."""

    def __init__(self) -> None:
        self.payloads: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        self.payloads[key] = data

    def get(self, key: str, size: int) -> bytes:
        from htcgrid_dataplane import PayloadCorrupt, PayloadMissing

        if key not in self.payloads:
            raise PayloadMissing(f"no payload lies under {key}")
        if len(self.payloads[key]) != size:
            raise PayloadCorrupt(f"the payload {key} has another size")
        return self.payloads[key]

    def stream(self, key: str, size: int) -> Iterator[bytes]:
        data = self.get(key, size)
        yield from (data[start : start + 1_000_000] for start in range(0, size, 1_000_000))


def open_strangers(settings: Mapping[str, str], s3: PayloadStore) -> Strangers:
    return Strangers()


class TestConformance(StoreConformance):
    @pytest.fixture
    def store(self, monkeypatch: pytest.MonkeyPatch, s3: PayloadStore) -> PayloadStore:
        point = EntryPoint("strangers", f"{__name__}:open_strangers", stores.GROUP)
        monkeypatch.setattr(stores, "entry_points", lambda group: [point] if group == stores.GROUP else [])
        return open_store("strangers", {}, s3)


def test_an_iam_token_is_signed_for_the_user_and_renewed_before_it_ends() -> None:
    session = botocore.session.Session()
    session.set_config_variable("region", "eu-west-1")
    session.set_credentials("AKIAEXAMPLE", "secret", "token")
    now = 0.0
    login = IamToken("agents", "cache-1", True, session, clock=lambda: now)
    user, token = login.get_credentials()
    assert user == "agents"
    assert token.startswith(
        "cache-1/?Action=connect&User=agents&ResourceType=ServerlessCache&X-Amz-Algorithm=AWS4-HMAC-"
    )
    assert "eu-west-1%2Felasticache%2Faws4_request" in token
    assert "X-Amz-Expires=900" in token
    now = 599
    assert login.get_credentials() == (user, token)
    credentials = session.get_credentials()
    assert credentials is not None
    credentials.access_key = "AKIAOTHER"
    now = 600
    assert login.get_credentials() != (user, token)


def test_a_password_in_secrets_manager_is_read_anew_when_it_is_rotated() -> None:
    now, text = 0.0, json.dumps({"username": "grid", "password": "first"})
    login = SecretPassword("grid", "redis", lambda secret: text if secret == "redis" else "", clock=lambda: now)
    assert login.get_credentials() == ("grid", "first")
    text = "second"
    assert login.get_credentials() == ("grid", "first")
    now = 300
    assert login.get_credentials() == ("grid", "second")


def test_a_secret_that_may_not_be_read_is_told() -> None:
    def refuse(secret: str) -> str:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetSecretValue")

    with pytest.raises(StoreUnavailable, match=r"the secret redis cannot be read: .*AccessDenied"):
        SecretPassword("grid", "redis", refuse).get_credentials()
