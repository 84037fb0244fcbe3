"""Checks Signature Version 4 of every request: the root key's too, and on every path, which MiniStack does not.

The arithmetic is MiniStack's (`ministack.core.sigv4`), which keeps the derived keys. What is added: one form of the
header and of the query only, so that nobody can name two keys; a body that is the signed one; no unsigned `x-amz-`
header.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote

from ministack.core import iam_evaluator, sigv4
from ministack.core.iam_evaluator import ResolvedCredential

ACCOUNT = "000000000000"
_HEADER = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=([^/,=\s]+/\d{8}/[^/,=\s]+/[^/,=\s]+/aws4_request), *"
    r"SignedHeaders=([^,=\s]+), *Signature=([0-9a-f]{64})"
)
_IN_QUERY = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature")
_LONGEST_SECONDS = 7 * 24 * 3600
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Refused(Exception):
    """Raised when a request is not proven to come from who has the key; has AWS's code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Request:
    """A signed request whose body has not been read yet."""

    method: str
    raw_path: str
    headers: dict[str, str]
    query: dict[str, list[str]]
    signature: sigv4.HeaderSignature
    presigned: bool

    @classmethod
    def of(cls, scope: dict[str, Any]) -> "Request":
        """Take a request apart.

        Raises:
            Refused: it is not signed, or in another way than Signature Version 4.
        """
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1"), sigv4.decode_header_value(raw_value)
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        query = parse_qs(scope["query_string"].decode("utf-8", "replace"), keep_blank_values=True)
        named = [name for name in query if name.lower() in _LOWER_IN_QUERY]
        if "authorization" in headers:
            signature = _in_header(headers, named)
        elif named:
            signature = _in_query(query, named)
        else:
            raise Refused("MissingAuthenticationToken", "Missing Authentication Token")
        raw_path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
        return cls(scope["method"], raw_path, headers, query, signature, bool(named))

    def credential(self) -> ResolvedCredential:
        """The key that the request names.

        Raises:
            Refused: the key is not known, or the request was signed too long ago.
        """
        if self.presigned:
            self._check_expiry()
        elif skewed := sigv4.request_time_failure(self.signature):
            raise Refused(*skewed)
        key = self.signature.access_key_id
        # MiniStack takes "test" and every number of 12 digits for root keys, too.
        if iam_evaluator.is_root_access_key(key) and key != os.environ["AWS_ACCESS_KEY_ID"]:
            raise _unknown()
        token = self.query.get("X-Amz-Security-Token", [""])[0] if self.presigned else None
        found = iam_evaluator.resolve_credential(key, ACCOUNT, token or self.headers.get("x-amz-security-token", ""))
        if isinstance(found, iam_evaluator.CredentialResolutionError):
            raise Refused(found.code, found.message)
        return found

    def check(self, credential: ResolvedCredential, body: bytes) -> None:
        """Make sure that the key signed this very request.

        Raises:
            Refused: it did not.
        """
        signed = self.signature.signed_headers.split(";")
        unsigned = [name for name in self.headers if name.startswith("x-amz-") and name not in signed]
        if self.presigned:
            unsigned = [name for name in unsigned if name != "x-amz-content-sha256"]
        if "host" not in signed or unsigned:
            raise Refused("SignatureDoesNotMatch", f"Headers must be signed: {', '.join(['host', *unsigned])}")
        said = self.headers.get("x-amz-content-sha256", "")
        if _DIGEST.fullmatch(said):
            if hashlib.sha256(body).hexdigest() != said:
                raise Refused("XAmzContentSHA256Mismatch", "The body is not the one that was signed.")
        elif said and self.signature.service != "s3":
            raise Refused("SignatureDoesNotMatch", sigv4.SIGNATURE_MISMATCH)
        failure = sigv4.header_signature_failure(
            self.signature,
            credential.secret_access_key,
            self.method,
            self.raw_path,
            self.query,
            self.headers,
            body,
            presigned=self.presigned,
        )
        if failure:
            raise Refused(*failure)

    def _check_expiry(self) -> None:
        given = self.query.get("X-Amz-Expires", ["0"])[0]
        seconds = int(given) if given.isascii() and given.isdigit() and len(given) < 7 else 0
        try:
            expired = not 0 < seconds <= _LONGEST_SECONDS or sigv4.presigned_request_is_expired(
                self.signature.amz_date, seconds
            )
        except ValueError:
            expired = True
        if expired:
            raise Refused("AccessDenied", "Request has expired")


_LOWER_IN_QUERY = frozenset(name.lower() for name in (*_IN_QUERY, "X-Amz-Security-Token", "AWSAccessKeyId"))


def _in_header(headers: dict[str, str], named: list[str]) -> sigv4.HeaderSignature:
    found = _HEADER.fullmatch(headers["authorization"])
    if found is None or named:
        raise Refused("IncompleteSignature", "The Authorization header must have the one form of Signature Version 4.")
    key, day, region, service, _ = found[1].split("/")
    date = headers.get("x-amz-date", "")
    if sigv4._amz_datetime(date) is None:
        raise Refused("IncompleteSignature", "X-Amz-Date must have the form YYYYMMDDTHHMMSSZ.")
    return sigv4.HeaderSignature(key, day, region, service, found[2], found[3], date)


def _in_query(query: dict[str, list[str]], named: list[str]) -> sigv4.HeaderSignature:
    known = {*_IN_QUERY, "X-Amz-Security-Token"}
    if not known.issuperset(named) or any(len(query[name]) != 1 for name in named) or not set(_IN_QUERY) <= set(named):
        raise Refused("IncompleteSignature", f"A signed URL must name {', '.join(_IN_QUERY)} once each.")
    algorithm, credential, date, signed, signature = (query[name][0] for name in _IN_QUERY)
    scope = credential.split("/")
    if algorithm != "AWS4-HMAC-SHA256" or len(scope) != 5 or not scope[0] or scope[4] != "aws4_request":
        raise Refused(
            "IncompleteSignature", "The credential of a signed URL must be key/date/region/service/aws4_request."
        )
    return sigv4.HeaderSignature(scope[0], scope[1], scope[2], scope[3], signed, signature, date)


def _unknown() -> Refused:
    return Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
