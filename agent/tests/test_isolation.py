"""Nothing that one task, message or row contains stops an agent from dealing with the others."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from agent.tests.embedded import free_ports, until
from agent.tests.harness import Place
from agent.tests.proxy import Fate, Request, network
from botocore.exceptions import ClientError

from htcgrid_agent.aws.entries import EntryResult, send_isolated
from htcgrid_agent.aws.sqs import MAX_BATCH_BYTES, TaskEvents
from htcgrid_chunks.errors import WriteRefused
from htcgrid_events import FailureKind, TaskError

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

TEXTS = ["bad \uffff", "bad \ufffe", "bad \x00\x0b\x1f", "bad \U0001fffe", "bad \U0001f600 é"]


def test_error_texts_of_every_plane_of_unicode_reach_the_user(place: Place) -> None:
    place.agent()
    texts = [TEXTS[number % len(TEXTS)] for number in range(12)]
    session = place.submit(*([{"do": "raise", "message": text}] for text in texts), max_retries=1)
    errors = place.results(session)
    assert [(error.kind, error.message, error.attempts) for error in errors] == [
        (FailureKind.HANDLER, text, 2) for text in texts
    ]

    def told_of_all_retries() -> bool:
        place.receive_events()
        return len(place.retries) == len(texts)

    # Their events hold the messages as they are, and not within compressed results.
    until(told_of_all_retries)
    assert sorted(event.tasks[0].message for event in place.retries) == sorted(texts)
    until(place.is_clean)


def test_an_agent_that_claims_its_own_chunk_again_writes_only_the_new_attempt(place: Place, tmp_path: Path) -> None:
    note = tmp_path / "note"

    def before(request: Request) -> Fate:
        # DynamoDB takes claims again before the outcome of the first attempt is written, and then nothing else until
        # both attempts have ended: then their outcomes are written together.
        if request.name == "Claim":
            return Fate.PASS
        both_ended = note.exists() and len(note.read_text().splitlines()) == 2
        return Fate.PASS if both_ended or request.name not in ("Finish", "Extend") else Fate.FAIL

    with network(place.embedded.url, place.embedded.elsewhere) as net:
        net.before = before
        place.endpoint = net.url
        port = free_ports(1)
        agent = place.agent(lease_seconds=3, workers=1, health_port=port)
        session = place.submit([{"do": "echo", "value": 1, "note": str(note)}])
        assert place.results(session, within=60) == [1]
        assert place.row(session).attempt == 2
        # DynamoDB was not even asked to write the row twice in one request.
        assert "ValidationException" not in httpx.get(f"http://127.0.0.1:{port}/metrics").text
        # Other chunks are not stuck behind it.
        assert place.results(place.submit([{"do": "echo", "value": 2}])) == [2]
        until(place.is_clean)
        assert agent.end() == 0


def test_results_that_could_not_be_read_again_fail_their_task_with_a_sentence(place: Place) -> None:
    place.agent(workers=1)
    size = 6_000_000
    session = place.submit([{"do": "large", "bytes": size} for _ in range(45)], max_retries=1)
    results = place.results(session, within=120)
    assert [len(result) for result in results[:44]] == [size] * 44
    assert isinstance(results[44], TaskError)
    assert (results[44].type, results[44].attempts) == ("Chunk.ResultsTooLarge", 1)
    assert "smaller chunk_size" in results[44].message
    until(place.is_clean)


def test_a_message_with_fields_of_a_later_release_is_understood(place: Place) -> None:
    place.agent()
    session = place.submit([{"do": "echo", "value": 1}], messages=0)
    body = {
        "session_id": session.session_id, "chunk": 0, "tenant": "tenant-1", "task_timeout_seconds": 60,
        "colour": {"of": "a later release"},
    }  # fmt: skip
    [url] = {place.queue_urls[priority] for priority in place.queue_urls if priority.value == "normal"}
    place.sqs.send_message(QueueUrl=url, MessageBody=json.dumps(body), MessageGroupId="tenant-1")
    assert place.results(session) == [1]


@pytest.mark.parametrize("bad", [{2}, {1, 3}, {1, 2, 3}, set[int]()])
def test_entries_of_a_request_that_is_refused_as_a_whole_are_sent_one_by_one(bad: set[int]) -> None:
    def send(entries: Sequence[int]) -> list[str]:
        if bad.intersection(entries):
            raise WriteRefused("DynamoDB refuses a write for what it contains: ValidationError")
        return [f"answer to {entry}" for entry in entries]

    assert send_isolated(send, [1, 2, 3], refused=None) == [
        None if entry in bad else f"answer to {entry}" for entry in (1, 2, 3)
    ]


class Sqs:
    """Answers batches of sends: each entry by what its body says, and a request that is too long as a whole."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def send_message_batch(self, QueueUrl: str, Entries: Sequence[Mapping[str, str]]) -> dict[str, Any]:  # noqa: N803
        self.sizes.append(sum(len(entry["MessageBody"]) for entry in Entries))
        codes = {entry["Id"]: entry["MessageBody"].strip() for entry in Entries}
        failed = [
            {"Id": number, "Code": code.removeprefix("sender "), "SenderFault": code.startswith("sender ")}
            for number, code in codes.items()
            if code != "ok"
        ]
        return {"Failed": failed}


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ("ok", EntryResult.ACCEPTED),
        ("sender InvalidMessageContents", EntryResult.REFUSED),
        ("sender KmsThrottled", EntryResult.RETRY),
        ("sender RequestThrottled", EntryResult.RETRY),
        ("InternalError", EntryResult.RETRY),
    ],
)
def test_what_sqs_says_of_an_entry_is_told_apart(body: str, result: EntryResult) -> None:
    events = TaskEvents(cast("SQSClient", Sqs()), "url")
    assert events.send(["ok", body, "ok"]) == [EntryResult.ACCEPTED, result, EntryResult.ACCEPTED]


def test_no_request_to_sqs_is_longer_than_it_takes() -> None:
    sqs = Sqs()
    events = TaskEvents(cast("SQSClient", sqs), "url")
    assert events.send(["ok".ljust(200 * 1024)] * 10) == [EntryResult.ACCEPTED] * 10
    assert all(size <= MAX_BATCH_BYTES for size in sqs.sizes)
    assert len(sqs.sizes) == 2


def test_a_refusal_that_an_operator_can_mend_is_not_for_good() -> None:
    def send(entries: Sequence[int]) -> list[EntryResult]:
        raise ClientError(
            {"Error": {"Code": "AccessDenied", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}},  # type: ignore[typeddict-item]
            "Send",
        )

    with pytest.raises(ClientError):
        send_isolated(send, [1, 2], EntryResult.REFUSED)
