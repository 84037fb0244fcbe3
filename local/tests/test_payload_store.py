"""The payload stores of local grids."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from htcgrid_dataplane.stores import open_store
from htcgrid_local.deploying import override
from htcgrid_local.errors import NotInstalledError, OptionError
from htcgrid_local.home import Home
from htcgrid_local.payload_store import STORES, StoreInUse, check_store, start_store
from htcgrid_local.processes import Processes
from htcgrid_local.project import find_project


class NoBucket:
    """The stores of these tests leave the bucket alone."""

    def put(self, key: str, data: bytes) -> None:
        raise AssertionError

    def get(self, key: str, size: int) -> bytes:
        raise AssertionError

    def stream(self, key: str, size: int) -> Iterator[bytes]:
        raise AssertionError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


def test_payloads_in_a_folder_are_the_owners_alone_and_go_with_the_grid(home: Home) -> None:
    store = start_store("filesystem", Processes(lambda children: None), home)
    opened = open_store(store.name, store.settings, NoBucket())
    opened.put("local/1/inputs/0", b"payload")
    assert opened.get("local/1/inputs/0", 7) == b"payload"
    assert home.payloads.stat().st_mode & 0o777 == 0o700
    files = [path for path in home.payloads.rglob("*") if path.is_file()]
    assert len(files) == 2  # the payload, and what marks the store
    home.clear_scratch()
    assert not home.payloads.exists()


@pytest.mark.parametrize("name", STORES)
def test_functions_are_told_of_stores_that_the_bucket_does_not_have(name: str) -> None:
    store = StoreInUse(name, {"folder": "/somewhere"})
    told = store.template_parameters()
    assert told == ({} if "s3" in name else {"Store": name, "StoreSettings": '{"folder": "/somewhere"}'})
    agents = store.agent_environment()
    assert agents.get("HTCGRID_STORE", "s3") == name
    assert agents.get("HTCGRID_STORE_SETTINGS") == (None if name == "s3" else '{"folder": "/somewhere"}')


def test_a_store_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check_store("s3")
    check_store("filesystem")
    for name in ("redis", "s3+redis"):
        with pytest.raises(NotInstalledError, match="apt-get install redis-server"):
            check_store(name)
    with pytest.raises(OptionError, match="There is no store 'disk'; there are: s3, redis, s3\\+redis, filesystem"):
        check_store("disk")


@pytest.mark.grid
@pytest.mark.parametrize("folder", ["/home/grid", "/home/my grid", """/home/"a" 'b' \\c=d, {e}"""])
def test_sam_reads_settings_as_they_are_given(folder: str) -> None:
    settings = json.dumps({"folder": folder})
    code = (
        "import sys; from samcli.cli.types import CfnParameterOverridesType as T;"
        "print(T().convert(tuple(sys.argv[1:]), None, None)['StoreSettings'])"
    )
    python = find_project().sam.parent / "python"
    given = [override("Store", "filesystem"), override("StoreSettings", settings)]
    done = subprocess.run([python, "-c", code, *given], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"folder": folder}
