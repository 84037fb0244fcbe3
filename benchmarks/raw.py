"""What a store gives to its own client library: the same bytes as through the grid, moved without it."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import redis

from htcgrid_local import LocalGrid

_WAYS_OF_A_TASK = ("input", "result")


@dataclass(frozen=True)
class RawStore:
    """Puts bytes, and reads them."""

    put: Callable[[str, bytes], object]
    get: Callable[[str], object]


def seconds_to_move(local: LocalGrid, size: int, tasks: int, parallel: int) -> float:
    """How long it takes to put and get an input and a result of so many bytes for each of some tasks."""
    raw, data = raw_store(local), os.urandom(size)

    def task(number: int) -> None:
        for way in _WAYS_OF_A_TASK:
            raw.put(f"raw-{number}-{way}", data)
            raw.get(f"raw-{number}-{way}")

    with ThreadPoolExecutor(parallel) as pool:
        # Connections are made before.
        list(pool.map(task, range(parallel)))
        began = time.perf_counter()
        list(pool.map(task, range(tasks)))
        return time.perf_counter() - began


def raw_store(local: LocalGrid) -> RawStore:
    """The store that the agents of a grid use, without what is ours."""
    environment = psutil.Process(local.agents[0].pid).environ()
    settings = json.loads(environment.get("HTCGRID_STORE_SETTINGS", "{}"))
    match environment.get("HTCGRID_STORE", "s3"):
        case "redis":
            return _redis(settings)
        case "s3+redis":
            s3, cache = _s3(local), _redis(settings)
            return RawStore(lambda name, data: (s3.put(name, data), cache.put(name, data)), cache.get)
        case "filesystem":
            return _files(Path(settings["folder"]))
        case _:
            return _s3(local)


def _s3(local: LocalGrid) -> RawStore:
    client, bucket = local.client("s3"), local.outputs["DataBucket"]
    return RawStore(
        lambda name, data: client.put_object(Bucket=bucket, Key=name, Body=data),
        lambda name: client.get_object(Bucket=bucket, Key=name)["Body"].read(),
    )


def _redis(settings: dict[str, Any]) -> RawStore:
    place = urlsplit(settings["url"])
    client = redis.Redis(
        host=place.hostname or "",
        port=place.port or 6379,
        username=settings["user"],
        password=Path(settings["password_file"]).read_text(encoding="utf-8"),
        ssl=place.scheme == "rediss",
        ssl_ca_certs=settings.get("ca_file"),
    )
    return RawStore(lambda name, data: client.set(name, data, ex=600), client.get)


def _files(folder: Path) -> RawStore:
    here = Path(tempfile.mkdtemp(dir=folder))
    outside = Path(tempfile.mkdtemp(dir=folder.parent))

    def put(name: str, data: bytes) -> None:
        (outside / name).write_bytes(data)
        shutil.copyfile(outside / name, here / name)

    def get(name: str) -> bytes:
        return Path(shutil.copyfile(here / name, outside / name)).read_bytes()

    return RawStore(put, get)
