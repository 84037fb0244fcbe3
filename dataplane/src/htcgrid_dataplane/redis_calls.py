"""Calls of a Redis: which failures pass and are waited for, what the others mean, and which writes a replica has."""

import logging
import random
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, TypeVar

import redis
from redis import exceptions

from htcgrid_dataplane.errors import StoreFull, StoreUnavailable

Client = redis.Redis | redis.RedisCluster

_Answer = TypeVar("_Answer")
_Error = TypeVar("_Error", bound=BaseException)
_LOG = logging.getLogger(__name__)
_PASSING: Final = (
    exceptions.TimeoutError,
    exceptions.ConnectionError,
    exceptions.AskError,
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
_ERRORS: Final = (exceptions.RedisError, exceptions.RedisClusterException)
"""The client for clusters has errors that are none of `RedisError`."""
_NOT_SIGNED_IN: Final = (exceptions.AuthenticationError, exceptions.AuthorizationError)
_REPLICA_ANSWERS_WITHIN: Final = timedelta(seconds=1)
"""A replica that takes longer does not follow its primary; one in another zone of AWS takes some 2 ms."""
_REPLICAS_ARE_LOOKED_FOR: Final = timedelta(seconds=10)


class RedisCalls:
    """Calls a Redis, one node or a cluster, from several threads."""

    def __init__(
        self,
        connect: Callable[[], Client],
        patience: timedelta,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Call what `connect` connects to, when it is needed first.

        Args:
            connect: returns a client of one node or of a cluster, which need not retry by itself.
            patience: how long to try again while no node answers, as during a failover.
            sleep: waits for so many seconds.
            clock: seconds that only grow.
        """
        self._connect = connect
        self._connected: Client | None = None
        self._connecting = threading.Lock()
        self._patience = patience.total_seconds()
        self._sleep = sleep
        self._clock = clock
        self._followed: dict[str, tuple[float, bool]] = {}
        """Whether a replica follows a node, and until when that is believed."""

    def once(self, call: Callable[[Client], object]) -> None:
        """Make a call that is of use and not needed: what becomes of it does not matter."""
        with suppress(*_ERRORS):
            call(self._client())

    def tried(self, what: str, call: Callable[[Client], _Answer]) -> _Answer:
        """Make a call, and make it again while no node answers. `what` says what Redis did not do if it fails.

        Raises:
            StoreFull: the server has no memory left.
            StoreUnavailable: it does not answer for so long, refuses the user, or is not the one of the certificate.
        """
        until = self._clock() + self._patience
        pause, signed_in_anew, told = 0.05, False, False
        while True:
            client: Client | None = None
            try:
                client = self._client()
                return call(client)
            except _ERRORS as error:
                if _because_of(error, _NOT_SIGNED_IN) and not signed_in_anew:
                    # A password that was read before it was rotated is read again by a new client.
                    signed_in_anew = True
                    self._forget(client)
                    continue
                if not _passes(error) or self._clock() >= until:
                    raise _failure(what, error) from error
                if isinstance(client, redis.Redis):
                    # The name of a primary leads to another node after a failover; connections stay with the former.
                    client.connection_pool.disconnect(inuse_connections=False)
                if not told:
                    _LOG.warning("Redis does not answer; it is asked again for %g s: %s", self._patience, error)
                    told = True
            self._sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, 1)

    def confirm(self, client: Client, key: str, keep_seconds: int) -> None:
        """Wait, for a moment at most, until a replica has `key`, where any follows. To be called within `tried`,
        after the call that wrote it: that is repeated if the primary is gone, whose acknowledged writes may be lost.

        Raises:
            RedisError: as any call; and so does `RedisClusterException`.
        """
        name, node = _node_of(client, key)
        believed_until, follows = self._followed.get(name, (float("-inf"), False))
        if self._clock() >= believed_until:
            follows = _is_followed(node)
            self._followed[name] = self._clock() + _REPLICAS_ARE_LOOKED_FOR.total_seconds(), follows
        if not follows:
            return
        # A connection waits for writes of its own alone, and for all that its node did before them.
        pipeline: Any = node.pipeline(transaction=False)
        pipeline.expire(key, keep_seconds)
        pipeline.execute_command("WAIT", 1, int(_REPLICA_ANSWERS_WITHIN.total_seconds() * 1000))
        if not pipeline.execute()[1]:
            _LOG.warning("no replica of Redis confirms what is written: a failover now may lose it")
            self._followed[name] = self._clock() + _REPLICAS_ARE_LOOKED_FOR.total_seconds(), False

    def _client(self) -> Client:
        with self._connecting:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _forget(self, client: Client | None) -> None:
        with self._connecting:
            if self._connected is client:
                self._connected = None


def _node_of(client: Client, key: str) -> tuple[str, redis.Redis]:
    """The node that has a key."""
    if isinstance(client, redis.Redis):
        return "", client
    cluster: Any = client
    node = cluster.get_node_from_key(key)
    return node.name, cluster.get_redis_connection(node)


def _is_followed(node: redis.Redis) -> bool:
    """Whether a replica follows a node closely."""
    replicas = (value for name, value in node.info("replication").items() if name.startswith("slave"))
    return any(isinstance(replica, dict) and replica.get("state") == "online" for replica in replicas)


def _passes(error: Exception) -> bool:
    return isinstance(error, _PASSING) and not _because_of(error, (*_NOT_SIGNED_IN, ssl.SSLCertVerificationError))


def _failure(what: str, error: Exception) -> StoreUnavailable:
    if isinstance(error, exceptions.OutOfMemoryError):
        return StoreFull(f"Redis {what}: its memory is full")
    if refused := _because_of(error, _NOT_SIGNED_IN):
        return StoreUnavailable(f"Redis {what}: it refuses the user or the password: {refused}")
    if isinstance(error, exceptions.NoPermissionError):
        return StoreUnavailable(f"Redis {what}: its user lacks a right: {error}")
    if distrusted := _because_of(error, (ssl.SSLCertVerificationError,)):
        return StoreUnavailable(
            f"Redis {what}: its certificate is not trusted ({distrusted.verify_message}); set ca_file to a file with "
            "the certificate of its authority, and url to a name for which it is made"
        )
    return StoreUnavailable(f"Redis {what}: {error}")


def _because_of(error: BaseException | None, kinds: tuple[type[_Error], ...]) -> _Error | None:
    """The error of one of these kinds, if another one was raised because of it: the client for clusters hides them."""
    while error is not None:
        if isinstance(error, kinds):
            return error
        error = error.__cause__ or error.__context__
    return None
