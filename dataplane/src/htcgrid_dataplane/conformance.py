"""What every payload store must do, as tests: made for those who write a store of their own (needs pytest).

Write a test class that inherits from `StoreConformance`, or from `RelayConformance` if no presigned URL reaches the
store, and has a fixture `store`; pytest runs the rest:

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self) -> PayloadStore:
            return MyStore(...)
"""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

import pytest

from htcgrid_dataplane.errors import PayloadCorrupt, PayloadMissing
from htcgrid_dataplane.store import RELAY_PART_BYTES, PayloadRelay, PayloadStore, input_key, result_key

_MIB = 1024 * 1024
_MOST_IN_ONE_PART = 8 * _MIB


class RelayedStore(PayloadStore, PayloadRelay, Protocol):
    """A store that gives and takes payloads in parts as well."""


class StoreConformance:
    """The tests. Each uses keys of its own, so that the store may outlive them."""

    @pytest.fixture
    def key(self) -> str:
        """A key that nobody has used."""
        return result_key("tenant", secrets.token_hex(8), 0, 1)

    @pytest.mark.parametrize("size", [0, 1, 1_000, _MIB + 1, 20 * _MIB, 40 * _MIB + 1])
    def test_what_was_put_is_got(self, store: PayloadStore, key: str, size: int) -> None:
        """Of any size, whole and in parts."""
        data = secrets.token_bytes(size)
        store.put(key, data)
        assert store.get(key, size) == data
        assert b"".join(store.stream(key, size)) == data

    def test_parts_are_small(self, store: PayloadStore, key: str) -> None:
        """A reader in parts never has much of a payload in memory."""
        size = 20 * _MIB
        store.put(key, bytes(size))
        assert max(map(len, store.stream(key, size))) <= _MOST_IN_ONE_PART

    def test_a_payload_may_be_left_before_its_end(self, store: PayloadStore, key: str) -> None:
        """And the store goes on."""
        data = secrets.token_bytes(20 * _MIB)
        store.put(key, data)
        for _ in range(3):
            assert data.startswith(next(iter(store.stream(key, len(data)))))
        assert store.get(key, len(data)) == data

    def test_what_was_never_put_is_missing(self, store: PayloadStore, key: str) -> None:
        """And asking again is of no use."""
        with pytest.raises(PayloadMissing, match=key) as missing:
            store.get(key, 1)
        assert not missing.value.retryable

    @pytest.mark.parametrize("size", [0, 1, 10, 12, 30 * _MIB])
    def test_what_has_another_size_than_announced_is_refused(self, store: PayloadStore, key: str, size: int) -> None:
        """So that nobody reads more than was said, or takes a part for the whole."""
        store.put(key, b"x" * 11)
        with pytest.raises(PayloadCorrupt, match=key) as refusal:
            store.get(key, size)
        assert not refusal.value.retryable

    def test_of_a_larger_payload_only_a_little_more_is_read(self, store: PayloadStore, key: str) -> None:
        """What comes before the refusal is no more than was announced and one part."""
        store.put(key, bytes(20 * _MIB))
        received: list[int] = []
        with pytest.raises(PayloadCorrupt):
            received.extend(map(len, store.stream(key, 1)))
        assert sum(received) <= _MOST_IN_ONE_PART

    def test_a_put_may_be_repeated(self, store: PayloadStore, key: str) -> None:
        """As it is after an answer that was lost."""
        for _ in range(3):
            store.put(key, b"the same")
        assert store.get(key, 8) == b"the same"

    @pytest.mark.parametrize("size", [5, 20 * _MIB])
    def test_later_results_replace_a_checkpoint(self, store: PayloadStore, key: str, size: int) -> None:
        """Of the same size too: an attempt writes both under one key."""
        for content in (b"1", b"2"):
            store.put(key, content * size)
            assert store.get(key, size) == content * size

    def test_keys_do_not_meet(self, store: PayloadStore, key: str) -> None:
        """Not those that begin alike, differ in case, or look like folders of each other."""
        keys = [
            key,
            f"{key}0",
            f"{key}/0",
            f"{key}/0/",
            key.upper(),
            f"{key}.tmp",
            f"{key}#0",
            f"{key}:0",
            f"{key}%2F0",
        ]
        keys += [input_key("tenant", "s" * 200, 0, "edition"), f"../{key}", f"{key}/..", f"{key} é"]
        for number, one in enumerate(keys):
            store.put(one, bytes([number]))
        assert [store.get(one, 1) for one in keys] == [bytes([number]) for number in range(len(keys))]

    def test_nobody_reads_a_payload_in_part(self, store: PayloadStore, key: str) -> None:
        """While it is written, by several at a time, it is missing or whole."""
        data = secrets.token_bytes(20 * _MIB)
        written = threading.Event()

        def write() -> None:
            try:
                store.put(key, data)
            finally:
                written.set()

        with ThreadPoolExecutor(2) as pool:
            writers = [pool.submit(write) for _ in range(2)]
            while not written.is_set():
                try:
                    assert store.get(key, len(data)) == data
                except PayloadMissing:
                    continue
            for writer in writers:
                writer.result()
        assert store.get(key, len(data)) == data

    def test_many_use_it_at_a_time(self, store: PayloadStore, key: str) -> None:
        """A store is shared by the threads of an agent."""

        def use(number: int) -> bool:
            mine, data = f"{key}/{number}", secrets.token_bytes(number * 1_000)
            store.put(mine, data)
            return store.get(mine, len(data)) == data

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(use, range(200)))


class RelayConformance:
    """The tests of a `PayloadRelay` that is a `PayloadStore` too. Each uses keys of its own."""

    @pytest.fixture
    def key(self) -> str:
        """A key that nobody has used."""
        return input_key("tenant", secrets.token_hex(8), 0)

    @pytest.mark.parametrize("size", [0, 1, 1_000, 9 * _MIB, 20 * _MIB])
    def test_parts_of_a_payload_are_read(self, store: RelayedStore, key: str, size: int) -> None:
        """From anywhere, also across the parts that the store made; fewer bytes where it ends before."""
        data = secrets.token_bytes(size)
        store.put(key, data)
        for offset in {0, 1, size // 2, 8 * _MIB - 1, max(0, size - 1), size, size + 1}:
            for length in (1, 10, RELAY_PART_BYTES):
                assert store.read(key, size, offset, length) == data[offset : offset + length]

    def test_no_part_is_read_of_what_is_missing(self, store: RelayedStore, key: str) -> None:
        """Or was uploaded in part alone."""
        with pytest.raises(PayloadMissing, match=key):
            store.read(key, 5, 0, 5)
        store.put_part(key, _an_upload(), 0, b"whole")
        with pytest.raises(PayloadMissing, match=key):
            store.read(key, 5, 0, 5)

    @pytest.mark.parametrize("content", [5, 20 * _MIB])
    @pytest.mark.parametrize("size", [0, 4, 6, 21 * _MIB])
    def test_no_part_is_read_of_what_has_another_size(
        self, store: RelayedStore, key: str, content: int, size: int
    ) -> None:
        """Than was announced, wherever the part begins."""
        store.put(key, bytes(content))
        for offset in (0, 4):
            with pytest.raises(PayloadCorrupt, match=key):
                store.read(key, size, offset, 1)

    @pytest.mark.parametrize("size", [1, RELAY_PART_BYTES, 2 * RELAY_PART_BYTES, 5 * RELAY_PART_BYTES + 7])
    def test_an_upload_becomes_a_payload_when_it_is_finished(self, store: RelayedStore, key: str, size: int) -> None:
        """And not before."""
        data = secrets.token_bytes(size)
        upload = _an_upload()
        _upload(store, key, upload, data)
        with pytest.raises(PayloadMissing):
            store.get(key, size)
        assert store.finish(key, upload, size)
        assert store.get(key, size) == data
        assert b"".join(store.stream(key, size)) == data
        assert store.read(key, size, size // 2, 10) == data[size // 2 : size // 2 + 10]

    def test_parts_may_be_put_again(self, store: RelayedStore, key: str) -> None:
        """As they are after answers that were lost, late ones too."""
        data = secrets.token_bytes(2 * RELAY_PART_BYTES + 1)
        parts = _parts(data)
        upload = _an_upload()
        for number in (0, 0, 1, 0, 1, 2, 1, 2):
            store.put_part(key, upload, *parts[number])
        assert store.finish(key, upload, len(data))
        assert store.get(key, len(data)) == data

    @pytest.mark.parametrize("size", [10, 2 * RELAY_PART_BYTES + 1])
    def test_to_finish_may_be_repeated(self, store: RelayedStore, key: str, size: int) -> None:
        """And gives the same answer, after the payload too."""
        data, other = secrets.token_bytes(size), secrets.token_bytes(size)
        mine, theirs = _an_upload(), _an_upload()
        _upload(store, key, mine, data)
        _upload(store, key, theirs, other)
        assert [store.finish(key, mine, size) for _ in range(3)] == [True] * 3
        assert [store.finish(key, theirs, size) for _ in range(3)] == [False] * 3
        assert store.finish(key, mine, size)
        assert store.get(key, size) == data

    @pytest.mark.parametrize("size", [10, 2 * RELAY_PART_BYTES + 1])
    def test_a_part_that_comes_after_the_end_changes_nothing(self, store: RelayedStore, key: str, size: int) -> None:
        """Be it repeated, which may be refused, or another one."""
        data = secrets.token_bytes(size)
        upload = _an_upload()
        _upload(store, key, upload, data)
        assert store.finish(key, upload, size)
        for late in (data, secrets.token_bytes(size)):
            for offset, part in _parts(late):
                with suppress(PayloadMissing):
                    store.put_part(key, upload, offset, part)
            assert store.finish(key, upload, size)
            assert store.get(key, size) == data

    def test_uploads_of_a_key_do_not_meet(self, store: RelayedStore, key: str) -> None:
        """While both are under way; of those that are finished at a time one is the payload."""
        size = 2 * RELAY_PART_BYTES + 1
        contents = {_an_upload(): secrets.token_bytes(size) for _ in range(4)}
        for number in range(3):
            for upload, data in contents.items():
                store.put_part(key, upload, *_parts(data)[number])
        with ThreadPoolExecutor(len(contents)) as pool:
            finished = dict(
                zip(contents, pool.map(lambda upload: store.finish(key, upload, size), contents), strict=True)
            )
        assert sorted(finished.values()) == [False, False, False, True]
        [winner] = [upload for upload, won in finished.items() if won]
        assert store.get(key, size) == contents[winner]

    @pytest.mark.parametrize("size", [5, 20 * _MIB])
    def test_what_was_put_is_not_replaced_by_an_upload(self, store: RelayedStore, key: str, size: int) -> None:
        """Of the same content neither."""
        data = secrets.token_bytes(size)
        store.put(key, data)
        for content in (data, secrets.token_bytes(11)):
            upload = _an_upload()
            _upload(store, key, upload, content)
            assert not store.finish(key, upload, len(content))
        assert store.get(key, size) == data

    @pytest.mark.parametrize("left_out", [0, 1, 2])
    def test_an_upload_that_lacks_a_part_is_not_finished(self, store: RelayedStore, key: str, left_out: int) -> None:
        """Whichever it is: the client is told to begin anew."""
        data = secrets.token_bytes(2 * RELAY_PART_BYTES + 1)
        parts = _parts(data)
        del parts[left_out]
        upload = _an_upload()

        def upload_parts() -> None:
            for offset, part in parts:
                store.put_part(key, upload, offset, part)
            store.finish(key, upload, len(data))

        with pytest.raises(PayloadMissing, match=key) as missing:
            upload_parts()
        assert not missing.value.retryable
        with pytest.raises(PayloadMissing):
            store.get(key, len(data))

    def test_an_upload_of_another_key_is_not_finished(self, store: RelayedStore, key: str) -> None:
        """Its name alone opens nothing."""
        upload = _an_upload()
        _upload(store, key, upload, b"mine")
        with pytest.raises(PayloadMissing):
            store.finish(f"{key}0", upload, 4)

    def test_a_put_replaces_what_was_uploaded(self, store: RelayedStore, key: str) -> None:
        """As it replaces what was put."""
        data = secrets.token_bytes(2 * RELAY_PART_BYTES + 1)
        upload = _an_upload()
        _upload(store, key, upload, data)
        assert store.finish(key, upload, len(data))
        store.put(key, b"later")
        assert store.get(key, 5) == b"later"


def _an_upload() -> str:
    return secrets.token_hex(16)


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    """The parts of an upload with their offsets."""
    return [(offset, data[offset : offset + RELAY_PART_BYTES]) for offset in range(0, len(data), RELAY_PART_BYTES)]


def _upload(store: PayloadRelay, key: str, upload: str, data: bytes) -> None:
    for offset, part in _parts(data):
        store.put_part(key, upload, offset, part)
