"""The program `htcgrid-fetch-function`: puts a function from S3 into the folder from which a pod's workers run it.

It is an init container: it runs before the agent and the workers, with the agent's credentials, which user code never
has. When the pod's containers start anew, it replaces what is there.
"""

import argparse
import hashlib
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError
from prometheus_client import CollectorRegistry, Counter

from htcgrid_agent.aws.breaker import CircuitBreaker
from htcgrid_agent.aws.client import ClientConfig, ObjectClient
from htcgrid_agent.aws.endpoints import refuse_unsupported
from htcgrid_agent.errors import AgentError, FunctionNotFetched, error_code
from htcgrid_agent.unpacking import MEBIBYTE, unpack
from htcgrid_chunks.backoff import Backoff
from htcgrid_dataplane.aws_session import open_session

MAX_ARCHIVE_BYTES: Final = 512 * MEBIBYTE
"""Ten times what Lambda takes as a zip."""
_PIECE: Final = 8 * MEBIBYTE
_READ_TIMEOUT: Final = timedelta(seconds=60)
_LOCATION: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

Get = Callable[[int, int], bytes]
"""Gives the bytes of an object from the first number to the second, as many of them as there are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch a function, and give the exit code: 1 where that failed, with the reason on stderr."""
    parser = argparse.ArgumentParser(
        prog="htcgrid-fetch-function",
        description="Unpacks a function from a zip archive in S3 into a folder, read-only. Replaces what is there.",
    )
    parser.add_argument("--location", required=True, help="the archive: s3://BUCKET/KEY.zip")
    parser.add_argument("--sha256", required=True, help="its SHA-256 in hexadecimal digits, as sha256sum tells it")
    parser.add_argument("--into", required=True, type=Path, help="the folder, such as /var/task")
    given = parser.parse_args(arguments)
    try:
        files = fetch(given.location, given.sha256, given.into)
    except (AgentError, BotoCoreError) as error:
        sys.stderr.write(f"htcgrid-fetch-function: {error}\n")
        return 1
    sys.stdout.write(f"{given.into} holds the {files} files of {given.location}.\n")
    return 0


def fetch(location: str, sha256: str, into: Path) -> int:
    """Unpack the archive at `location`, whose digest must be `sha256`, into a folder; gives the number of files.

    Raises:
        FunctionNotFetched: it is not there, too large, another one, or no archive that can be unpacked safely.
        BotoCoreError: AWS cannot be reached, or no region or credentials are set.
    """
    if not _LOCATION.fullmatch(location):
        raise FunctionNotFetched(f"The location must have the form s3://BUCKET/KEY.zip, and is {location!r}.")
    if not _SHA256.fullmatch(sha256):
        raise FunctionNotFetched(f"The SHA-256 must be 64 hexadecimal digits in lower case, and is {sha256!r}.")
    if not into.is_dir():
        raise FunctionNotFetched(f"There is no folder {into} to unpack into.")
    try:
        with tempfile.TemporaryFile(dir=into) as archive:
            digest = _download(_getter(location), archive, location)
            if digest != sha256:
                raise FunctionNotFetched(
                    f"{location} has the SHA-256 {digest}, and not {sha256}: it is not the archive that was meant."
                )
            return unpack(archive, into)
    except OSError as error:
        raise FunctionNotFetched(f"{location} cannot be stored: {error}.") from error


def _download(get: Get, archive: IO[bytes], location: str) -> str:
    """Store an object in a file, a piece at a time; gives its digest."""
    digest, size = hashlib.sha256(), 0
    while True:
        try:
            piece = get(size, size + _PIECE - 1)
        except ClientError as error:
            if (
                size
                and error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            ):
                return digest.hexdigest()
            raise FunctionNotFetched(f"{location} cannot be read: {_why(error)}") from error
        archive.write(piece)
        digest.update(piece)
        size += len(piece)
        if size > MAX_ARCHIVE_BYTES:
            limit = MAX_ARCHIVE_BYTES // MEBIBYTE
            raise FunctionNotFetched(f"{location} has more than {limit} MiB, the most that is fetched.")
        if len(piece) < _PIECE:
            return digest.hexdigest()


def _why(error: ClientError) -> str:
    code = error_code(error)
    match error.response["ResponseMetadata"]["HTTPStatusCode"]:
        case HTTPStatus.NOT_FOUND:
            return f"there is no such object or bucket ({code})."
        case HTTPStatus.FORBIDDEN:
            return f"the agent's role may not, or there is no such object ({code}): allow it s3:GetObject."
        case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return "it is empty."
        case _:
            return f"{error}."


def _getter(location: str) -> Get:
    """What reads the object at a location, with the AWS client of the agent."""
    session = open_session()
    refuse_unsupported(session)
    config = ClientConfig(
        session=session,
        # One request after the other: its own retries are enough.
        breaker=CircuitBreaker("s3", threshold=1_000_000, pause=Backoff(base=timedelta(0), cap=timedelta(0))),
        requests=Counter("requests", "Requests", ["operation", "error"], registry=CollectorRegistry()),
        connections=1,
        read_timeout=_READ_TIMEOUT,
    )
    parts = urlsplit(location)
    objects = ObjectClient(parts.netloc, config)
    key = location.removeprefix(f"s3://{parts.netloc}/")
    return lambda first, last: objects.get(key, {"range": f"bytes={first}-{last}"}).data
