"""The routes of a stub grid's API for data that tasks share."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from connector.tests.stub_http import Answer, ok, refusal

from htcgrid_events import DataDeleted, DataPage, DataPlace, DataRecord, DataReference, DataState, DataUpload, PutData

if TYPE_CHECKING:
    from connector.tests.stub_grid import StubGrid

_CONFLICT, _MISSING = 409, 404


class StubData:
    """Parts that were uploaded lie with the grid's payloads, and are joined when the data is complete."""

    def __init__(self, grid: "StubGrid") -> None:
        self._grid = grid
        self.part_bytes = 16 * 1024 * 1024
        self.records: dict[str, DataRecord] = {}
        self.used: set[str] = set()
        """Digests that are deleted by force alone."""
        self.named: list[dict[str, Any]] = []
        """What each request that brought tasks had in its fields `data` and `preload`."""

    def stored(self, sha256: str) -> bytes:
        return self._grid.payloads[f"/data/{sha256}"]

    def answer(self, method: str, rest: list[str], query: dict[str, str], body: bytes) -> Answer:
        match method, rest:
            case "GET", []:
                return ok(self._page(query.get("after", "")))
            case "PUT", [sha256]:
                return ok(self._put(sha256, PutData.model_validate_json(body)))
            case "POST", [sha256, "complete"]:
                return self._complete(sha256)
            case "DELETE", [sha256]:
                if sha256 in self.used and query.get("force") != "true":
                    return refusal(_CONFLICT, "DataInUse")
                return ok(DataDeleted(sha256=sha256, deleted=self.records.pop(sha256, None) is not None))
            case "GET", [sha256] if sha256 in self.records:
                record = self.records[sha256]
                url = f"{self._grid.url}/data/{sha256}?X-Amz-Signature=secret"
                return ok(record.model_copy(update={"url": url if record.state is DataState.THERE else None}))
        return refusal(_MISSING, "DataNotFound")

    def refusal_of(self, body: bytes, digests: Iterable[str]) -> Answer | None:
        """What a request that brings tasks is told when data is missing to which they refer."""
        told = json.loads(body)
        self.named.append({field: told[field] for field in ("data", "preload") if field in told})
        there = {sha256 for sha256, record in self.records.items() if record.state is DataState.THERE}
        return refusal(_CONFLICT, "DataMissing") if set(digests) - there else None

    def _page(self, after: str) -> DataPage:
        found = [self.records[sha256] for sha256 in sorted(self.records) if sha256 > after]
        page = tuple(found[: self._grid.page_size])
        return DataPage(data=page, next_after=page[-1].reference.sha256 if len(found) > len(page) else None)

    def _put(self, sha256: str, request: PutData) -> DataPlace:
        known = self.records.get(sha256)
        there = known is not None and known.state is DataState.THERE
        reference = DataReference(sha256=sha256, bytes=request.bytes, name=request.name, folder=request.folder)
        state = DataState.THERE if there else DataState.UPLOADING
        self.records[sha256] = DataRecord(reference=reference, state=state, created_at=1, expires_at=1_000)
        urls = tuple(f"{self._grid.url}{place}?X-Amz-Signature=secret" for place in self._parts(reference))
        upload = DataUpload(urls=urls, part_bytes=self.part_bytes, headers={"If-None-Match": "*"})
        return DataPlace(reference=reference, there=there, expires_at=1_000, upload=None if there else upload)

    def _complete(self, sha256: str) -> Answer:
        record, payloads = self.records[sha256], self._grid.payloads
        parts = self._parts(record.reference)
        if not all(place in payloads for place in parts):
            return refusal(_CONFLICT, "DataConflict")
        payloads[f"/data/{sha256}"] = b"".join(payloads.pop(place) for place in parts)
        self.records[sha256] = record.model_copy(update={"state": DataState.THERE})
        return ok(self.records[sha256])

    def _parts(self, reference: DataReference) -> list[str]:
        count = max(1, -(-reference.bytes // self.part_bytes))
        return [f"/parts/{reference.sha256}/{number}" for number in range(count)]
