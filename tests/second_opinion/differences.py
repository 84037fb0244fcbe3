"""Where a server differs from AWS, each difference by its name. Nothing that differs is left out without a word."""

import re
from dataclasses import dataclass
from enum import StrEnum

from tests.second_opinion.servers import ROOT


class Server(StrEnum):
    """What stands in for AWS."""

    EMBEDDED = "embedded AWS"
    ELASTICMQ = "ElasticMQ"
    DYNOXIDE = "Dynoxide"


EMBEDDED = frozenset({Server.EMBEDDED})
SECOND_OPINION = frozenset({Server.ELASTICMQ, Server.DYNOXIDE})


@dataclass(frozen=True)
class Difference:
    """One way in which a server differs from AWS, and what the tests do about it."""

    name: str
    servers: tuple[Server, ...]
    why: str
    adaptation: str
    tests: tuple[str, ...] = ()
    """Tests, as `file::name` without parameters, that must fail because of it: that one passes is an error."""


_REFUSALS = "tests/second_opinion/test_refusals.py"
_QUEUE_REFUSALS = "tests/second_opinion/test_queue_refusals.py"

DIFFERENCES = (
    Difference(
        name="one-endpoint-per-service",
        servers=(Server.ELASTICMQ, Server.DYNOXIDE),
        why="Each server of the second opinion serves one service alone.",
        adaptation="Clients find SQS and DynamoDB by AWS_ENDPOINT_URL_SQS and AWS_ENDPOINT_URL_DYNAMODB, and all else "
        "by AWS_ENDPOINT_URL; where a test puts a network in between, that tells requests apart by their target.",
    ),
    Difference(
        name="no-deliveries-of-other-services",
        servers=(Server.ELASTICMQ,),
        why="EventBridge, SNS and Step Functions of the embedded AWS reach only its own queues.",
        adaptation="Queues that they deliver into stay on the embedded AWS (`Harness.deliveries`).",
    ),
    Difference(
        name="no-rows-for-other-services",
        servers=(Server.DYNOXIDE,),
        why="Step Functions of the embedded AWS reads only its own tables.",
        adaptation="Tests of a workflow that reads rows are left out by the rule `workflow-over-rows`.",
    ),
    Difference(
        name="permissions-are-ignored",
        servers=(Server.ELASTICMQ, Server.DYNOXIDE),
        why="They know no IAM.",
        adaptation="None is needed: nothing here depends on a refusal. Permissions are tested on the embedded AWS.",
    ),
    Difference(
        name="nothing-is-throttled",
        servers=(Server.DYNOXIDE,),
        why="It knows no throughput, and takes one request after another, so no write meets a transaction.",
        adaptation="Waits after such answers are tested with made-up answers, on the embedded AWS too.",
    ),
    Difference(
        name="statements-of-any-length",
        servers=(Server.EMBEDDED,),
        why="It takes PartiQL statements of more than 8 KB. AWS refuses them.",
        adaptation="`tests/support/quotas.py` measures them, and Dynoxide refuses them.",
        tests=(f"{_REFUSALS}::test_a_statement_of_more_than_8_kb_is_refused",),
    ),
    Difference(
        name="a-deletion-is-refused-when-repeated",
        servers=(Server.EMBEDDED, Server.ELASTICMQ),
        why="A receipt whose message is deleted is refused. AWS accepts it: a deletion may be repeated.",
        adaptation="None is needed: the agent takes such a refusal for a message that is gone.",
        tests=(f"{_QUEUE_REFUSALS}::test_a_deletion_may_be_repeated",),
    ),
    Difference(
        name="codes-of-refused-requests",
        servers=(Server.ELASTICMQ,),
        why="It refuses too large a batch or too long a poll as InvalidAttributeValue. AWS has codes for each.",
        adaptation="Tests ask for a refusal, not for its code: the grid reads no code of a request refused as a whole.",
    ),
    Difference(
        name="messages-hidden-for-any-time",
        servers=(Server.EMBEDDED, Server.ELASTICMQ),
        why="A message may be hidden for more than 12 hours. AWS refuses that.",
        adaptation="None is needed: the agent asks for no more than AWS accepts.",
        tests=(f"{_QUEUE_REFUSALS}::test_a_message_cannot_be_hidden_for_more_than_twelve_hours",),
    ),
    Difference(
        name="long-polls-of-any-length",
        servers=(Server.EMBEDDED,),
        why="It takes a long poll of more than 20 s. AWS refuses that.",
        adaptation="None is needed: the agent waits for no longer than AWS accepts.",
        tests=(f"{_QUEUE_REFUSALS}::test_a_long_poll_of_more_than_twenty_seconds_is_refused",),
    ),
)


def difference_of(test: str, servers: frozenset[Server]) -> Difference | None:
    """The difference because of which a test, `file::name`, must fail on one of these servers."""
    return next((each for each in DIFFERENCES if servers.intersection(each.servers) and test in each.tests), None)


def tests_that_are_gone() -> list[str]:
    """Tests that a difference names and that do not exist any more."""
    named = {test for difference in DIFFERENCES for test in difference.tests}
    return sorted(test for test in named if not _exists(test))


def _exists(test: str) -> bool:
    path, _, name = test.partition("::")
    file = ROOT / path
    return file.is_file() and re.search(rf"^def {re.escape(name)}\(", file.read_text(), re.MULTILINE) is not None
