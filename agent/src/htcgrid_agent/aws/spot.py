"""Watches for the notice that a spot instance will be interrupted."""

import asyncio
import json
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final

import urllib3

_LOG = logging.getLogger(__name__)
_ENDPOINT: Final = "http://169.254.169.254"
_EVERY: Final = timedelta(seconds=5)
"""As the EC2 User Guide recommends ("Spot Instance interruption notices")."""
_TIMEOUT: Final = urllib3.Timeout(connect=1, read=1)
_TOKEN_SECONDS: Final = 21_600


class SpotNotices:
    """Asks the instance metadata service."""

    def __init__(self, every: timedelta = _EVERY) -> None:
        self._every = every
        endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _ENDPOINT
        self._pool = urllib3.connection_from_url(endpoint, timeout=_TIMEOUT, retries=False)
        self._token = ""

    async def watch(self, noticed: Callable[[timedelta], None]) -> None:
        """Wait for the notice, then call `noticed` once with the time that is left."""
        while True:
            try:
                end = await asyncio.to_thread(self._ask)
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                _LOG.debug("the instance metadata service does not answer: %s", error)
            else:
                if end:
                    noticed(max(timedelta(0), end - datetime.now(UTC)))
                    return
            await asyncio.sleep(self._every.total_seconds())

    def _ask(self) -> datetime | None:
        """When the instance ends, if that is known."""
        headers = {"X-aws-ec2-metadata-token": self._token}
        response = self._pool.request("GET", "/latest/meta-data/spot/instance-action", headers=headers)
        if response.status == HTTPStatus.UNAUTHORIZED:
            wish = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
            self._token = self._pool.request("PUT", "/latest/api/token", headers=wish).data.decode()
            headers = {"X-aws-ec2-metadata-token": self._token}
            response = self._pool.request("GET", "/latest/meta-data/spot/instance-action", headers=headers)
        if response.status != HTTPStatus.OK:
            return None
        return datetime.fromisoformat(json.loads(response.data)["time"])
