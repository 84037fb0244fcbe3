"""AWS Signature Version 4 ("Create a signed AWS API request", IAM User Guide)."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Keys:
    """Credentials as they are at one moment."""

    access_key: str
    secret_key: str
    token: str | None


class Signer:
    """Signs requests to one service in one region."""

    def __init__(self, service: str, region: str) -> None:
        self._service = service
        self._region = region
        self._derived: tuple[str, str, bytes] = ("", "", b"")

    def sign(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        keys: Keys,
        now: datetime,
        query: str = "",
    ) -> dict[str, str]:
        """The headers to send: those given (lower-case names, `host` among them) and what proves the sender.

        `path` and `query` are encoded as they will be sent, and the query is sorted by its names.
        """
        moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        day = moment[:8]
        digest = hashlib.sha256(body).hexdigest()
        signed = {**headers, "x-amz-date": moment}
        if keys.token:
            signed["x-amz-security-token"] = keys.token
        if self._service == "s3":
            signed["x-amz-content-sha256"] = digest
        names = sorted(signed)
        listed = ";".join(names)
        lines = "".join(f"{name}:{signed[name]}\n" for name in names)
        request = f"{method}\n{path}\n{query}\n{lines}\n{listed}\n{digest}"
        scope = f"{day}/{self._region}/{self._service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = _hmac(self._key(keys.secret_key, day), text).hex()
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={listed}, Signature={signature}"
        )
        return signed

    def _key(self, secret: str, day: str) -> bytes:
        known_secret, known_day, key = self._derived
        if (known_secret, known_day) != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = _hmac(key, part)
            self._derived = (secret, day, key)
        return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
