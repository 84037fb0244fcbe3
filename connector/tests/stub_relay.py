"""The route of a stub grid's API that passes payloads on in parts."""

import re

from connector.tests.stub_http import Answer, refusal

from htcgrid_events import RELAY_PART_BYTES

_FOLDERS = {"inputs": "in", "results": "out"}
_DONE, _TAKEN, _MISSING, _WRONG = 204, 412, 404, 422


class StubRelay:
    """Keeps payloads in the grid's own, unseen until their last part has come."""

    def __init__(self, payloads: dict[str, bytes]) -> None:
        self._payloads = payloads
        self._uploads: dict[tuple[str, str], bytes] = {}
        self._finished: dict[str, str] = {}
        """By the payload, the upload that it is from."""

    def answer(self, method: str, key: tuple[str, str, str], query: dict[str, str], body: bytes) -> Answer:
        """What the grid says to a part that is asked for or given."""
        session_id, kind, name = key
        place = f"/{_FOLDERS[kind]}/{session_id}/{name}"
        size, offset = int(query["size"]), int(query["offset"])
        if method == "PUT":
            assert kind == "inputs"
            return self._put(place, query["upload"], size, offset, body)
        if place not in self._payloads:
            return refusal(_MISSING, "PayloadMissing")
        if len(self._payloads[place]) != size:
            return refusal(_WRONG, "PayloadCorrupt")
        return Answer(200, self._payloads[place][offset : offset + RELAY_PART_BYTES])

    def _put(self, place: str, upload: str, size: int, offset: int, part: bytes) -> Answer:
        assert re.fullmatch("[0-9a-f]{32}", upload)
        assert 0 < len(part) <= RELAY_PART_BYTES
        if place in self._payloads and self._finished.get(place) != upload:
            return refusal(_TAKEN, "PayloadTaken")
        before = self._uploads.get((place, upload), b"")[:offset]
        if len(before) < offset:
            return refusal(_MISSING, "PayloadMissing")
        whole = self._uploads[place, upload] = before + part
        assert len(whole) == size or (len(part) == RELAY_PART_BYTES and len(whole) < size)
        if len(whole) == size:
            self._payloads[place] = whole
            self._finished[place] = upload
        return Answer(_DONE, b"")
