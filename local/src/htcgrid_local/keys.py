"""Keys of one grid's embedded AWS: that of its root user is made anew by each start."""

from __future__ import annotations

import configparser
import http.client
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from htcgrid.private_files import write_private
from htcgrid_local.errors import NoGridError

REGION: Final = "us-east-1"
_PROFILE: Final = "default"


@dataclass(frozen=True)
class Key:
    """An access key and its secret."""

    access_key_id: str
    secret_access_key: str

    @classmethod
    def new(cls) -> Self:
        """A random key."""
        return cls(f"AKIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))

    @classmethod
    def read(cls, path: Path) -> Self:
        """The key that a running grid has written.

        Raises:
            NoGridError: there is none.
        """
        parser = configparser.ConfigParser(interpolation=None)
        try:
            with path.open(encoding="ascii") as file:
                parser.read_file(file)
            section = parser[_PROFILE]
            return cls(section["aws_access_key_id"], section["aws_secret_access_key"])
        except (OSError, configparser.Error, KeyError) as error:
            raise NoGridError(f"The key of a running grid cannot be read from {path}.") from error

    def write(self, path: Path) -> None:
        """Write it in the form of an AWS credentials file, so that every AWS tool can use it."""
        write_private(path, f"[{_PROFILE}]\n{self.lines()}region = {REGION}\n")

    def lines(self) -> str:
        """The two lines of an AWS credentials file that name a key."""
        return f"aws_access_key_id = {self.access_key_id}\naws_secret_access_key = {self.secret_access_key}\n"

    def environment(self) -> dict[str, str]:
        """The variables by which every AWS SDK finds a key."""
        return {"AWS_ACCESS_KEY_ID": self.access_key_id, "AWS_SECRET_ACCESS_KEY": self.secret_access_key}

    def ask(self, method: str, url: str, timeout_seconds: float) -> tuple[int, bytes]:
        """Send a signed request without a body to what the grid adds to the embedded AWS (`/_htcgrid/…`).

        Raises:
            OSError: it does not answer.
        """
        request = AWSRequest(method, url)
        SigV4Auth(Credentials(self.access_key_id, self.secret_access_key), "htcgrid", REGION).add_auth(request)
        address = urlsplit(url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout_seconds)
        try:
            connection.request(method, address.path, headers=dict(request.headers.items()))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
