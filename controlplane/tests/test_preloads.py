"""Which data the agents of a partition fetch in advance, of more than may be named."""

from htcgrid_controlplane.rules.preloads import MAX_BYTES, MAX_ENTRIES, Preload, merged
from htcgrid_events import DataReference

NOW = 1_760_000_000_000
LATER = NOW + 3_600_000


def reference(number: int, size: int = 1, name: str = "curves") -> DataReference:
    return DataReference(sha256=f"{number:064x}", bytes=size, name=name)


def filled(many: int, size: int = 1) -> dict[str, Preload]:
    """Entries of which each was asked for after the one before it; in another order, since maps have none."""
    made = {f"t/{number:064x}": Preload(reference(number, size), NOW + number, LATER) for number in range(many)}
    return dict(sorted(made.items(), reverse=True))


def test_of_too_many_those_go_that_were_asked_for_longest_ago() -> None:
    after = merged(filled(MAX_ENTRIES), "t", [reference(1_000), reference(1_001)], LATER, NOW + 5_000)
    assert len(after) == MAX_ENTRIES
    assert f"t/{0:064x}" not in after
    assert f"t/{1:064x}" not in after
    assert f"t/{2:064x}" in after
    assert f"t/{1_001:064x}" in after


def test_of_too_many_bytes_those_go_that_were_asked_for_longest_ago() -> None:
    after = merged(filled(4, MAX_BYTES // 4), "t", [reference(1_000, 1)], LATER, NOW + 5_000)
    assert after.keys() == {f"t/{number:064x}" for number in (1, 2, 3, 1_000)}


def test_what_has_expired_goes_first() -> None:
    after = merged(filled(MAX_ENTRIES), "t", [reference(1_000)], LATER + 3_600_000, LATER)
    assert after.keys() == {f"t/{1_000:064x}"}


def test_what_is_asked_for_again_is_kept_for_longer_and_is_the_newest() -> None:
    after = merged(filled(3), "t", [reference(0)], LATER + 1, NOW + 5_000)
    assert after[f"t/{0:064x}"] == Preload(reference(0), NOW + 5_000, LATER + 1)
    assert len(after) == 3


def test_what_says_it_all_already_is_not_changed() -> None:
    entries = filled(3)
    assert merged(entries, "t", [reference(0), reference(2)], LATER, NOW + 5_000) is entries
    assert merged(entries, "t", [], LATER, NOW + 5_000) is entries
    assert merged(entries, "t", [reference(0, name="other")], LATER, NOW + 5_000) is not entries
    assert merged(entries, "other", [reference(0)], LATER, NOW + 5_000) is not entries


def test_a_shorter_session_takes_nothing_back() -> None:
    after = merged(filled(1), "t", [reference(0, name="other")], NOW + 1, NOW)
    assert after[f"t/{0:064x}"].expires_at == LATER
