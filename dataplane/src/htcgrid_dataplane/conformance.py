"""What every payload store must do, as tests: made for those who write a store of their own (needs pytest).

Write a test class that inherits from `StoreConformance` and has a fixture `store`; pytest runs the rest:

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self) -> PayloadStore:
            return MyStore(...)
"""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from htcgrid_dataplane.errors import PayloadCorrupt, PayloadMissing
from htcgrid_dataplane.store import PayloadStore, input_key, result_key

_MIB = 1024 * 1024
_MOST_IN_ONE_PART = 8 * _MIB


class StoreConformance:
    """The tests. Each uses keys of its own, so that the store may outlive them."""

    @pytest.fixture
    def key(self) -> str:
        """A key that nobody has used."""
        return result_key("tenant", secrets.token_hex(8), 0, 1)

    @pytest.mark.parametrize("size", [0, 1, 1_000, _MIB + 1, 20 * _MIB])
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
