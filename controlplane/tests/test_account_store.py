"""The bucket accounts: everything is counted exactly once, whatever comes twice, in part, or at the same time."""

from collections.abc import Iterable

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.control_plane_harness import START, TENANT, create_table
from tests.template.stack import of_type

from htcgrid_chunks.chunk import bucket_key
from htcgrid_chunks.errors import StorageUnavailable
from htcgrid_chunks.store import ACCOUNT_ROW
from htcgrid_controlplane.errors import SessionChanged
from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session
from htcgrid_controlplane.rules.tiling import Span
from htcgrid_controlplane.storage.accounts import AccountStore
from htcgrid_controlplane.storage.sessions import SessionStore
from htcgrid_events import BUCKET_SIZE, Account, ChunkOutcome, SessionOptions, Stages, new_id

EXPIRES = 1_760_000_600
FIRST = 7 * BUCKET_SIZE


def spans(sizes: dict[int, int]) -> list[Span]:
    return [Span(chunk, chunk, size) for chunk, size in sizes.items()]


class Ledger:
    """One bucket of one session."""

    def __init__(self) -> None:
        client = boto3.client("dynamodb")
        self.sessions = SessionStore(client, "sessions", lambda: START, 7)
        self.accounts = AccountStore(client, "chunks", "sessions")
        self.session = Session(new_id(), TENANT, SessionOptions(), START, START + 1000, expires_at=EXPIRES)
        client.transact_write_items(TransactItems=[self.sessions.insertion(self.session)])

    def submit(self, sizes: dict[int, int], expected: int = BUCKET_SIZE) -> None:
        self.accounts.add_submitted(self.session, 7, spans(sizes), expected)

    def record(self, outcomes: Iterable[ChunkOutcome]) -> list[int]:
        return self.accounts.record(self.session, 7, list(outcomes), START)[1]

    @property
    def tasks(self) -> Account:
        return self.accounts.read(self.session, [7])[0].tasks


@pytest.fixture
def ledger(empty_dynamodb: None) -> Ledger:
    create_table("SessionsTable", "sessions")
    create_table("ChunksTable", "chunks")
    return Ledger()


def outcome(chunk: int, outcomes: str = "C") -> ChunkOutcome:
    return ChunkOutcome(chunk=chunk, first_task=chunk, outcomes=outcomes, attempt=1, agent="a", stages=Stages())


def test_agents_may_write_no_attribute_of_an_account(ledger: Ledger) -> None:
    ledger.submit({FIRST: 1})
    ledger.record([outcome(FIRST).model_copy(update={"function_digests": ("a",)})])
    key = {"bucket": {"S": bucket_key(ledger.session.session_id, 7)}, "chunk": {"N": str(ACCOUNT_ROW)}}
    account = boto3.client("dynamodb").get_item(TableName="chunks", Key=key, ConsistentRead=True)["Item"]
    policy = of_type("AWS::IAM::Role")["AgentRole"]["Policies"][0]["PolicyDocument"]["Statement"]
    [condition] = [statement["Condition"] for statement in policy if statement["Action"] == "dynamodb:PartiQLUpdate"]
    written = set(condition["ForAllValues:StringEquals"]["dynamodb:Attributes"])
    assert set(account) & written == {"bucket", "chunk"}


def test_chunks_are_counted_as_submitted_once(ledger: Ledger) -> None:
    ledger.submit({FIRST: 10, FIRST + 1: 20})
    ledger.submit({FIRST: 10, FIRST + 1: 20})
    assert ledger.tasks == Account(submitted=30)
    ledger.submit({FIRST + 1: 20, FIRST + 2: 5})
    account = ledger.accounts.read(ledger.session, [7])[0]
    assert account.tasks == Account(submitted=35)
    assert account.submitted == {FIRST, FIRST + 1, FIRST + 2}
    assert account.expected == BUCKET_SIZE


def test_what_adding_gives_is_what_is_then_written(ledger: Ledger) -> None:
    for sizes in ({FIRST: 10}, {FIRST: 10, FIRST + 1: 1}, {FIRST: 10}):
        given_back = ledger.accounts.add_submitted(ledger.session, 7, spans(sizes), BUCKET_SIZE)
        written = ledger.accounts.read(ledger.session, [7])[0]
        assert (given_back.tasks.submitted, given_back.submitted) == (written.tasks.submitted, written.submitted)


@pytest.mark.parametrize("known", [False, True])
def test_a_stopped_session_takes_no_more(ledger: Ledger, known: bool) -> None:
    if known:
        ledger.submit({FIRST: 10})
    before = ledger.tasks
    ledger.sessions.stop(ledger.session.session_id, EndReason.CANCELLED)
    with pytest.raises(SessionChanged):
        ledger.submit({FIRST + 1: 10})
    assert ledger.tasks == before


def test_an_outcome_is_counted_once(ledger: Ledger) -> None:
    ledger.submit({FIRST: 3, FIRST + 1: 2})
    assert ledger.record([outcome(FIRST, "CFX")]) == [FIRST]
    assert ledger.record([outcome(FIRST, "CFX")]) == []
    assert ledger.tasks == Account(submitted=5, completed=1, failed=1, cancelled=1)


def test_of_a_batch_that_is_known_in_part_the_rest_is_counted(ledger: Ledger) -> None:
    ledger.submit({FIRST + number: 1 for number in range(4)})
    ledger.record([outcome(FIRST), outcome(FIRST + 2)])
    assert ledger.record([outcome(FIRST + number) for number in range(4)]) == [FIRST + 1, FIRST + 3]
    assert ledger.tasks == Account(submitted=4, completed=4)
    assert ledger.record([outcome(FIRST + 1), outcome(FIRST + 1)]) == []


def test_a_whole_bucket_is_counted_at_once(ledger: Ledger) -> None:
    ledger.submit({FIRST + number: 2 for number in range(BUCKET_SIZE)})
    account, new = ledger.accounts.record(
        ledger.session, 7, [outcome(FIRST + number, "CX") for number in range(BUCKET_SIZE)], START
    )
    assert len(new) == BUCKET_SIZE
    assert account.full
    assert account.tasks == Account(submitted=256, completed=128, cancelled=128)


def test_what_was_never_submitted_is_not_counted(ledger: Ledger) -> None:
    with pytest.raises(StorageUnavailable):
        ledger.record([outcome(FIRST)])
    assert ledger.tasks == Account()


@pytest.mark.parametrize("expect_first", [False, True])
def test_the_last_bucket_is_full_below_its_size(ledger: Ledger, expect_first: bool) -> None:
    ledger.submit({FIRST: 1, FIRST + 1: 1})
    ledger.record([outcome(FIRST)])
    if expect_first:
        assert not ledger.accounts.expect(ledger.session, 7, 2).full
    account, _ = ledger.accounts.record(ledger.session, 7, [outcome(FIRST + 1)], START)
    assert account.full is expect_first
    assert ledger.accounts.expect(ledger.session, 7, 2).full


def test_a_bucket_may_know_its_size_from_the_start_and_keeps_it(ledger: Ledger) -> None:
    ledger.submit({FIRST: 1}, expected=1)
    ledger.submit({FIRST: 1}, expected=BUCKET_SIZE)
    assert ledger.accounts.record(ledger.session, 7, [outcome(FIRST)], START)[0].full


def test_accounts_are_read_in_order_however_many_and_empty_where_there_is_none(ledger: Ledger) -> None:
    ledger.submit({FIRST: 4})
    accounts = ledger.accounts.read(ledger.session, range(250))
    assert [account.bucket for account in accounts] == list(range(250))
    assert [account.bucket for account in accounts if account.tasks.submitted] == [7]
    assert ledger.accounts.read(ledger.session, []) == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=8), st.lists(st.text("CFX", min_size=1, max_size=4),
       min_size=10, max_size=10))  # fmt: skip
def test_any_sequence_of_repeated_events_counts_each_chunk_once(
    empty_dynamodb: None, ledger: Ledger, batches: list[list[int]], letters: list[str]
) -> None:
    fresh = Ledger()
    fresh.submit({FIRST + number: len(codes) for number, codes in enumerate(letters)})
    for batch in batches:
        fresh.record(outcome(FIRST + number, letters[number]) for number in batch)
    codes = "".join(letters[number] for number in {number for batch in batches for number in batch})
    assert fresh.tasks == Account(
        submitted=sum(map(len, letters)),
        completed=codes.count("C"),
        failed=codes.count("F"),
        cancelled=codes.count("X"),
    )
