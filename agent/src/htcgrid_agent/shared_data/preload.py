"""Fetches what a partition is to have at hand before its first task needs it: whatever its row says, and is new.

Nobody waits for this: one after the other, behind what tasks wait for, and in the room that nothing newer takes.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from htcgrid_agent.shared_data.cache import DataCache, Item
from htcgrid_agent.shared_data.errors import DataUnavailable, DataUnusable, FetchStopped
from htcgrid_chunks.clock import Clock
from htcgrid_events import DataReference

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

_LOG = logging.getLogger(__name__)
_EVERY: Final = timedelta(minutes=1)
_ENTRY: Final = "preload"
_YIELD_SECONDS: Final = 0.2


class PreloadList:
    """What a partition is to preload: an attribute of its row, which docs/architecture.md describes."""

    def __init__(self, client: "DynamoDBClient", table: str, partition: str, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._partition = partition
        self._clock = clock

    def read(self) -> list[Item]:
        """All entries that have not expired.

        Raises:
            ClientError, BotoCoreError: the row cannot be read.
        """
        answer = self._client.get_item(
            TableName=self._table,
            Key={"partition": {"S": self._partition}, "entry": {"S": _ENTRY}},
            ProjectionExpression=_ENTRY,
        )
        entries: Mapping[str, Any] = answer.get("Item", {}).get(_ENTRY, {}).get("M", {})
        items = []
        for key, entry in entries.items():
            item = self._item(key, entry)
            if item:
                items.append(item)
        return items

    def _item(self, key: str, entry: Mapping[str, Any]) -> Item | None:
        tenant, _, sha256 = key.partition("/")
        try:
            fields = entry["M"]
            if int(fields["expires_at"]["N"]) * 1000 <= self._clock():
                return None
            values = {
                "sha256": sha256,
                "bytes": int(fields["bytes"]["N"]),
                "name": fields["name"]["S"],
                "folder": fields["folder"]["BOOL"],
            }
            return Item(tenant, DataReference.model_validate(values))
        except (KeyError, TypeError, ValueError, ValidationError):
            _LOG.warning("an entry of what is to be preloaded cannot be read: it is left out")
            return None


class Preload:
    """Reads the list at once, and again every minute. `busy` says whether tasks wait for data that is being fetched."""

    def __init__(self, entries: PreloadList, cache: DataCache, busy: Callable[[], bool]) -> None:
        self._entries = entries
        self._cache = cache
        self._busy = busy
        self._stopped = threading.Event()
        self._first_seen: dict[Item, float] = {}
        self._settled: set[Item] = set()
        """What was fetched once, or cannot be: it is not tried again while it is listed."""

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="preload", daemon=True).start()

    def close(self) -> None:
        """Fetch nothing more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.fetch_new(self._entries.read())
            except (ClientError, BotoCoreError, OSError) as error:
                _LOG.warning("what is to be preloaded cannot be read: %s", error)
            # Agents that were started together must not ask together.
            self._stopped.wait(_EVERY.total_seconds() * (0.5 + random.random()))

    def fetch_new(self, items: list[Item]) -> None:
        """Fetch what is listed and has not been fetched since it is."""
        now = time.time()
        self._first_seen = {item: self._first_seen.get(item, now) for item in items}
        self._settled &= set(items)
        new = [item for item in items if item not in self._settled]
        # First what is there already: it is as new as what is fetched, and must not make room for it.
        for item in new:
            hold = self._cache.try_hold(item)
            if hold:
                hold.release()
                self._settled.add(item)
        for item in new:
            if item not in self._settled and not self._stopped.is_set():
                self._fetch(item)

    def _fetch(self, item: Item) -> None:
        while self._busy() and not self._stopped.wait(_YIELD_SECONDS):
            pass
        try:
            self._cache.fetch(item, self._stopped, used_before=self._first_seen[item]).release()
        except DataUnusable as error:
            _LOG.warning("shared data cannot be preloaded: %s", error)
        except DataUnavailable as error:
            _LOG.info("shared data is not preloaded yet: %s", error)
            return
        except FetchStopped:
            return
        self._settled.add(item)
