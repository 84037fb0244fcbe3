"""How one signs in to Redis: with a password that lies in AWS Secrets Manager or in a file, or by IAM."""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from botocore.exceptions import BotoCoreError, ClientError
from botocore.model import ServiceId
from botocore.signers import RequestSigner
from redis import CredentialProvider

from htcgrid_dataplane.errors import StoreMisconfigured, StoreUnavailable

if TYPE_CHECKING:
    import botocore.credentials
    import botocore.session

_TOKEN_LASTS: Final = timedelta(minutes=15)
"""How long a token may be used to sign in ("Authenticating with IAM", ElastiCache)."""
_TOKEN_IS_RENEWED: Final = timedelta(minutes=10)
_SECRET_IS_READ: Final = timedelta(minutes=5)


class FilePassword(CredentialProvider):
    """A password in a file, which is read for each connection, since it may be rotated."""

    def __init__(self, user: str, file: Path) -> None:
        self._user = user
        self._file = file

    def get_credentials(self) -> tuple[str, str]:
        """The user and the password.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        try:
            return self._user, self._file.read_text().strip()
        except OSError as error:
            raise StoreUnavailable(f"the password of Redis cannot be read: {error}") from error


class SecretPassword(CredentialProvider):
    """A password in Secrets Manager: the text of a secret, or what its JSON has under `password`. Read anew every few
    minutes, since it may be rotated."""

    def __init__(
        self,
        user: str,
        secret_id: str,
        read: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._user = user
        self._secret_id = secret_id
        self._read = read
        self._clock = clock
        self._password = ""
        self._until = float("-inf")

    def get_credentials(self) -> tuple[str, str]:
        """The user and the password.

        Raises:
            StoreUnavailable: the secret cannot be read, or holds no password.
        """
        if self._clock() >= self._until:
            try:
                text = self._read(self._secret_id)
                self._password = str(json.loads(text)["password"]) if text.startswith("{") else text
            except (BotoCoreError, ClientError) as error:
                raise StoreUnavailable(f"the secret {self._secret_id} cannot be read: {error}") from error
            except (ValueError, KeyError) as error:
                raise StoreUnavailable(f"the secret {self._secret_id} is JSON without a password") from error
            self._until = self._clock() + _SECRET_IS_READ.total_seconds()
        return self._user, self._password


class IamToken(CredentialProvider):
    """A token that is signed with AWS credentials, for a user of ElastiCache who signs in by IAM."""

    def __init__(
        self,
        user: str,
        cache: str,
        serverless: bool,
        session: "botocore.session.Session",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._query = {"Action": "connect", "User": user} | ({"ResourceType": "ServerlessCache"} if serverless else {})
        self._user = user
        self._cache = cache
        self._clock = clock
        self._token = ""
        self._until = float("-inf")
        self._signer = RequestSigner(
            ServiceId("elasticache"),
            session.get_config_variable("region"),
            "elasticache",
            "v4",
            _credentials(session),
            session.get_component("event_emitter"),
        )

    def get_credentials(self) -> tuple[str, str]:
        """The user and the token."""
        if self._clock() >= self._until:
            request = {
                "method": "GET",
                "url": f"https://{self._cache}/?{urlencode(self._query)}",
                "body": {},
                "headers": {},
                "context": {},
            }
            url = self._signer.generate_presigned_url(
                request, operation_name="connect", expires_in=int(_TOKEN_LASTS.total_seconds())
            )
            self._token = url.removeprefix("https://")
            self._until = self._clock() + _TOKEN_IS_RENEWED.total_seconds()
        return self._user, self._token


def _credentials(session: "botocore.session.Session") -> "botocore.credentials.Credentials":
    credentials = session.get_credentials()
    if credentials is None:
        raise StoreMisconfigured("there are no AWS credentials to sign in to ElastiCache with by IAM")
    return credentials
