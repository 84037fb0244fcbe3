"""Payloads in memory: Amazon ElastiCache, or any other Redis or Valkey, one node or a cluster.

A value is one letter and a payload, or, of a large one, one letter and where its parts are: small parts spread over the
nodes, and none keeps a node from answering others for long. Parts come first and what refers to them last, so that
whoever sees a payload sees all of it.
"""

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

import redis
from redis import exceptions

from htcgrid_dataplane.errors import PayloadCorrupt, PayloadMissing, StoreFull, StoreMisconfigured, StoreUnavailable

Client = redis.Redis | redis.RedisCluster

_Answer = TypeVar("_Answer")
_PART: Final = 8 * 1024 * 1024 - 1024
"""Most bytes of a payload in a value: about 8 ms of a node's only thread at 1 GB/s. With 8 MiB and some bytes beside
them the server would take 10 MiB for each (size classes of jemalloc)."""
_WHOLE: Final = b"W"
_PARTS: Final = b"P"
_LONGEST_HEAD: Final = 64
"""Bytes that are enough for what refers to parts."""
_KEEPS_ALL: Final = "noeviction"
_PASSING: Final = (
    exceptions.TimeoutError,
    exceptions.ConnectionError,
    exceptions.BusyLoadingError,
    exceptions.ClusterDownError,
    exceptions.ClusterError,
    exceptions.MasterDownError,
    exceptions.ReadOnlyError,
    exceptions.RedisClusterException,
    exceptions.TryAgainError,
)
"""What a client sees of a failover, which took 3 s here and may take a minute on AWS ("Minimizing downtime in
ElastiCache by using Multi-AZ with Valkey and Redis OSS")."""
_REFUSED: Final = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)


class RedisStore:
    """A `PayloadStore` in Redis. Every key expires."""

    def __init__(
        self,
        connect: Callable[[], Client],
        keep_for: timedelta,
        patience: timedelta = timedelta(seconds=60),
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use the server that `connect` connects to, when it is needed first.

        Args:
            connect: returns a client of one node or of a cluster, which need not retry by itself.
            keep_for: how long a payload is kept.
            patience: how long to try again while no node answers, as during a failover.
            sleep: waits for so many seconds.
            clock: seconds that only grow.
        """
        self._connect = connect
        self._connected: Client | None = None
        self._connecting = threading.Lock()
        self._keep_seconds = int(keep_for.total_seconds())
        self._patience = patience.total_seconds()
        self._sleep = sleep
        self._clock = clock

    def check(self) -> None:
        """See whether the server may keep payloads. To be called before the first one is put.

        Raises:
            StoreMisconfigured: the server evicts keys when its memory is full, so that inputs would be lost.
            StoreUnavailable: it does not answer, or refuses the user.
        """

        def ask(client: Client) -> dict[str, Any]:
            if isinstance(client, redis.RedisCluster):
                return client.info("memory", target_nodes=redis.RedisCluster.ALL_NODES)
            return client.info("memory")

        memory = self._tried("did not say how it is set up", ask)
        answers = [memory] if "maxmemory_policy" in memory else list(memory.values())
        for policy in {answer["maxmemory_policy"] for answer in answers}:
            if policy != _KEEPS_ALL:
                raise StoreMisconfigured(
                    f"Redis evicts payloads when its memory is full (maxmemory-policy {policy}), and an input that is "
                    f"evicted is a lost task: set maxmemory-policy to {_KEEPS_ALL}"
                )

    def put(self, key: str, data: bytes) -> None:
        """See `PayloadStore.put`.

        Raises:
            StoreFull: the server has no memory left.
        """
        what = f"did not take {key} ({len(data)} bytes)"
        if len(data) < _PART:
            self._tried(what, lambda client: client.set(key, _WHOLE + data, ex=self._keep_seconds))
            return
        before = self._tried(what, lambda client: client.getrange(key, 0, _LONGEST_HEAD))
        token = secrets.token_hex(8)
        head = _PARTS + f"{len(data)} {token}".encode()
        places = _part_keys(key, head)
        try:
            for place, start in zip(places, range(0, len(data), _PART), strict=True):
                self._put_part(what, place, data[start : start + _PART])
        except StoreUnavailable:
            self._remove(places)
            raise
        # From here on parts stay if it is not known whether the head was written: it may refer to them.
        self._tried(what, lambda client: client.set(key, head, ex=self._keep_seconds))
        if before[:1] == _PARTS:
            self._remove(_part_keys(key, cast(bytes, before)))

    def get(self, key: str, size: int) -> bytes:
        """See `PayloadStore.get`."""
        return b"".join(self.stream(key, size))

    def stream(self, key: str, size: int) -> Iterator[bytes]:
        """See `PayloadStore.stream`."""
        # One byte more than was announced, and never the rest of a value that is larger.
        value = self._range(key, key, max(min(size, _PART) + 1, _LONGEST_HEAD))
        kind, data = value[:1], value[1:]
        if kind == _WHOLE:
            if len(data) != size:
                raise PayloadCorrupt(f"the payload {key} does not have its {size} bytes")
            yield data
            return
        found = int(data.partition(b" ")[0])
        if found != size:
            raise PayloadCorrupt(f"the payload {key} has {found} bytes, and not {size}")
        for place, start in zip(_part_keys(key, value), range(0, size, _PART), strict=True):
            yield self._range(key, place, min(_PART, size - start) - 1)

    def _put_part(self, what: str, key: str, part: bytes) -> None:
        self._tried(what, lambda client: client.set(key, part, ex=self._keep_seconds))

    def _remove(self, places: Iterable[str]) -> None:
        for place in places:
            # What cannot be removed expires.
            with suppress(exceptions.RedisError):
                self._client().unlink(place)

    def _range(self, key: str, place: str, last: int) -> bytes:
        value = self._tried(f"did not give {key}", lambda client: client.getrange(place, 0, last))
        # No value is empty: what comes of a key that is not there is.
        if not value:
            raise PayloadMissing(f"no payload lies under {key}")
        return cast(bytes, value)

    def _client(self) -> Client:
        with self._connecting:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _tried(self, what: str, call: Callable[[Client], _Answer]) -> _Answer:
        until = self._clock() + self._patience
        pause = 0.05
        while True:
            try:
                return call(self._client())
            except exceptions.OutOfMemoryError as error:
                raise StoreFull(f"Redis {what}: its memory is full") from error
            except _REFUSED as error:
                raise StoreUnavailable(f"Redis {what}: {error}") from error
            except _PASSING as error:
                if self._clock() >= until:
                    raise StoreUnavailable(f"Redis {what}: {error}") from error
            except exceptions.RedisError as error:
                raise StoreUnavailable(f"Redis {what}: {error}") from error
            self._sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, 1)


def _part_keys(key: str, head: bytes) -> list[str]:
    """Where the parts of a payload are to which `head` refers."""
    size, _, token = head.removeprefix(_PARTS).decode().partition(" ")
    return [f"{key}#{token}.{number}" for number in range(-(-int(size) // _PART))]
