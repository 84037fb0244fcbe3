"""Payloads in memory: Amazon ElastiCache, or any other Redis or Valkey, one node or a cluster.

A value is one letter and a payload, or, of a large one, one letter and where its parts are: small parts spread over the
nodes, and none keeps a node from answering others for long. Parts come first and what refers to them last, so that
whoever sees a payload sees all of it.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, Final, NamedTuple, Self, cast

import redis

from htcgrid_dataplane.errors import PayloadCorrupt, PayloadMissing, StoreMisconfigured, StoreUnavailable
from htcgrid_dataplane.redis_calls import Client, RedisCalls
from htcgrid_dataplane.store import RELAY_PART_BYTES

_PART: Final = 8 * 1024 * 1024 - 1024
"""Most bytes of a payload in a value: about 8 ms of a node's only thread at 1 GB/s. With 8 MiB and some bytes beside
them the server would take 10 MiB for each (size classes of jemalloc)."""
_WHOLE: Final = b"W"
_PARTS: Final = b"P"
_LONGEST_HEAD: Final = 96
"""Bytes that are enough for what refers to parts."""
_UNFINISHED_SECONDS: Final = 3600
"""How long the parts of an upload are kept that nobody finishes."""
_KEEPS_ALL: Final = "noeviction"


class RedisStore:
    """A `PayloadStore` and `PayloadRelay` in Redis. Every key expires."""

    def __init__(
        self,
        connect: Callable[[], Client],
        keep_for: timedelta,
        patience: timedelta = timedelta(seconds=60),
        replicated: bool = True,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use the server that `connect` connects to, when it is needed first.

        Args:
            connect: returns a client of one node or of a cluster, which need not retry by itself.
            keep_for: how long a payload is kept.
            patience: how long to try again while no node answers, as during a failover.
            replicated: whether what is put is to be with a replica before it counts as put, where any follows.
            sleep: waits for so many seconds.
            clock: seconds that only grow.
        """
        self._calls = RedisCalls(connect, patience, sleep, clock)
        self._replicated = replicated
        self._keep_seconds = int(keep_for.total_seconds())

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

        memory = self._calls.tried("did not say how it is set up", ask)
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
            self._set(what, key, _WHOLE + data)
            return
        before = self._head(key)
        head = _Head(len(data), secrets.token_hex(8))
        places = head.places(key)
        try:
            for place, start in zip(places, range(0, len(data), _PART), strict=True):
                self._set(what, place, data[start : start + _PART])
        except StoreUnavailable:
            self._remove(places)
            raise
        # From here on parts stay if it is not known whether the head was written: it may refer to them.
        self._set(what, key, head.encode())
        if before[:1] == _PARTS:
            self._remove(_Head.decode(before).places(key))

    def get(self, key: str, size: int) -> bytes:
        """See `PayloadStore.get`."""
        return b"".join(self.stream(key, size))

    def stream(self, key: str, size: int) -> Iterator[bytes]:
        """See `PayloadStore.stream`."""
        # One byte more than was announced, and never the rest of a value that is larger.
        value = self._range(key, key, 0, max(min(size, _PART) + 1, _LONGEST_HEAD))
        if value[:1] == _WHOLE:
            yield _of_size(key, value[1:], size)
            return
        head = _head_of_size(key, value, size)
        for place, start in zip(head.places(key), range(0, size, head.part), strict=True):
            yield self._range(key, place, 0, min(head.part, size - start) - 1)

    def read(self, key: str, size: int, offset: int, length: int) -> bytes:
        """See `PayloadRelay.read`."""
        value = self._range(key, key, 0, _LONGEST_HEAD - 1)
        until = min(size, offset + length)
        if value[:1] == _WHOLE:
            if self._calls.tried(f"did not give {key}", lambda client: client.strlen(key)) != 1 + size:
                raise PayloadCorrupt(f"the payload {key} does not have its {size} bytes")
            return self._range(key, key, 1 + offset, until) if offset < until else b""
        head = _head_of_size(key, value, size)
        places, found = head.places(key), []
        while offset < until:
            number, start = divmod(offset, head.part)
            end = min(head.part, start + until - offset)
            found.append(self._range(key, places[number], start, end - 1))
            offset += end - start
        return b"".join(found)

    def put_part(self, key: str, upload: str, offset: int, part: bytes) -> None:
        """See `PayloadRelay.put_part`.

        Raises:
            StoreFull: the server has no memory left.
        """
        place = _place(key, upload, offset // RELAY_PART_BYTES)
        # One that is there has the same bytes. It may belong to a payload by now, and stays for as long as that.
        self._set(f"did not take a part of {key} ({len(part)} bytes)", place, part, _UNFINISHED_SECONDS, new=True)

    def finish(self, key: str, upload: str, size: int) -> bool:
        """See `PayloadRelay.finish`."""
        what = f"did not finish {key} ({size} bytes)"
        head = _Head(size, upload, RELAY_PART_BYTES)
        before = self._head(key)
        if not before:
            for place, start in zip(head.places(key), range(0, size, head.part), strict=True):
                self._keep(what, key, place, min(head.part, size - start))
            if self._set(what, key, head.encode(), new=True):
                return True
            before = self._head(key)
        if before == head.encode():
            return True
        self._remove(head.places(key))
        return False

    def _set(self, what: str, key: str, value: bytes, keep_seconds: int = 0, new: bool = False) -> bool:
        """Write a value; false if it was to be a new one and there is another."""
        keep_seconds = keep_seconds or self._keep_seconds

        def write(client: Client) -> bool:
            written = bool(client.set(key, value, ex=keep_seconds, nx=new))
            if written and self._replicated:
                self._calls.confirm(client, key, keep_seconds)
            return written

        return self._calls.tried(what, write)

    def _keep(self, what: str, key: str, place: str, size: int) -> None:
        """Keep a part of an upload for as long as a payload."""

        def extend(client: Client) -> bool:
            return bool(client.expire(place, self._keep_seconds)) and client.strlen(place) == size

        if not self._calls.tried(what, extend):
            raise PayloadMissing(f"parts of an upload of {key} are missing: upload all of it again")

    def _remove(self, places: Iterable[str]) -> None:
        for place in places:
            # What cannot be removed expires.
            self._calls.once(lambda client, place=place: client.unlink(place))  # type: ignore[misc]

    def _head(self, key: str) -> bytes:
        """The beginning of what lies under a key; empty if nothing does."""
        return cast(
            bytes,
            self._calls.tried(f"did not give {key}", lambda client: client.getrange(key, 0, _LONGEST_HEAD - 1)),
        )

    def _range(self, key: str, place: str, first: int, last: int) -> bytes:
        value = self._calls.tried(f"did not give {key}", lambda client: client.getrange(place, first, last))
        # No value is empty: what comes of a key that is not there is.
        if not value:
            raise PayloadMissing(f"no payload lies under {key}")
        return cast(bytes, value)


class _Head(NamedTuple):
    """What refers to the parts of a payload."""

    size: int
    token: str
    part: int = _PART
    """Bytes in each part but the last."""

    def encode(self) -> bytes:
        text = f"{self.size} {self.token}"
        return _PARTS + (text if self.part == _PART else f"{text} {self.part}").encode()

    @classmethod
    def decode(cls, value: bytes) -> Self:
        size, token, *part = value.removeprefix(_PARTS).decode().split()
        return cls(int(size), token, *map(int, part))

    def places(self, key: str) -> list[str]:
        """The keys of the parts."""
        return [_place(key, self.token, number) for number in range(-(-self.size // self.part))]


def _place(key: str, token: str, number: int) -> str:
    return f"{key}#{token}.{number}"


def _head_of_size(key: str, value: bytes, size: int) -> _Head:
    head = _Head.decode(value)
    if head.size != size:
        raise PayloadCorrupt(f"the payload {key} has {head.size} bytes, and not {size}")
    return head


def _of_size(key: str, data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise PayloadCorrupt(f"the payload {key} does not have its {size} bytes")
    return data
