"""Connects to Redis as settings say."""

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from htcgrid_dataplane.redis_calls import Client

if TYPE_CHECKING:
    from htcgrid_dataplane.store_settings import RedisSettings

_ANSWER_WITHIN: Final = 5.0
"""Seconds; the largest value takes 0.1 s at 1 Gbit/s."""
_CONNECT_WITHIN: Final = 2.0


def connect(settings: "RedisSettings") -> Client:
    """A client that connects when it is used. It does not retry: who uses it decides for how long that makes sense."""
    address = urlsplit(settings.url)
    options: dict[str, Any] = {
        "host": address.hostname,
        "port": address.port or 6379,
        "socket_timeout": _ANSWER_WITHIN,
        "socket_connect_timeout": _CONNECT_WITHIN,
        "retry": Retry(NoBackoff(), 0),
        "credential_provider": _login(settings),
        "ssl": address.scheme == "rediss",
    }
    if options["ssl"] and settings.ca_file:
        options["ssl_ca_certs"] = str(settings.ca_file)
    return redis.RedisCluster(**options) if settings.cluster else redis.Redis(**options)


def _login(settings: "RedisSettings") -> redis.CredentialProvider | None:
    if settings.auth == "none":
        return None
    from htcgrid_dataplane.redis_login import FilePassword, IamToken, SecretPassword

    if settings.auth == "file" and settings.password_file:
        return FilePassword(settings.user, settings.password_file)
    from htcgrid_dataplane.aws_session import open_session

    session = open_session()
    if settings.auth == "secret" and settings.secret:
        client: Any = session.create_client("secretsmanager")
        return SecretPassword(
            settings.user, settings.secret, lambda secret: str(client.get_secret_value(SecretId=secret)["SecretString"])
        )
    if settings.auth == "iam" and settings.cache:
        return IamToken(settings.user, settings.cache, settings.serverless, session)
    raise AssertionError(settings.auth)
