"""A batch authorised as the single actions in it, as AWS does, and PartiQL by the attributes that it names.

`SendMessageBatch` as `sqs:SendMessage` ("Actions, resources, and condition keys for Amazon SQS"), each statement of
PartiQL as `dynamodb:PartiQLInsert` and so on, on its table. MiniStack 1.5 asks for actions named after the batches, and
for PartiQL on every resource. It finds `dynamodb:Attributes` in projections alone, so that a condition on this key
would let every statement pass. It knows no `cloudwatch:namespace`, so that nobody could publish under such a condition.
"""

import contextlib
import functools
import json
from collections.abc import Iterator
from typing import Any

from ministack.core import iam_actions
from ministack.services import dynamodb

_MEMBERS = {
    "dynamodb:ExecuteStatement": "Statement",
    "dynamodb:BatchExecuteStatement": "Statements",
    "dynamodb:ExecuteTransaction": "TransactStatements",
}
"""Where a request has its statement or statements."""

_transaction_checks = iam_actions.dynamodb_transaction_checks
_service_context = iam_actions.dynamodb_service_context
_tag_context = iam_actions.request_tag_context
_action_of = iam_actions.extract_iam_action


def authorise_as_aws_does() -> None:
    """Make MiniStack ask for the single actions, with the attributes of statements and the namespaces of metrics."""
    iam_actions.extract_iam_action = _action_of_single
    iam_actions.dynamodb_transaction_checks = _checks_of_statements
    iam_actions.dynamodb_service_context = _context_with_attributes
    iam_actions.request_tag_context = _context_with_namespace


def _action_of_single(service: str, *request: Any) -> str | None:
    action: str | None = _action_of(service, *request)
    return action.removesuffix("Batch") if action and service == "sqs" else action


def _checks_of_statements(action: str, body: bytes, region: str, account: str) -> list[tuple[str, str]]:
    if action not in _MEMBERS:
        checks: list[tuple[str, str]] = _transaction_checks(action, body, region, account)
        return checks
    return sorted(
        {
            (f"dynamodb:PartiQL{operation.title()}", f"arn:aws:dynamodb:{region}:{account}:table/{table}")
            for operation, table, _ in _statements(body)
        }
    )


def _context_with_attributes(body: bytes) -> dict[str, Any]:
    """The condition keys of a request. AWS judges each statement by itself; here, all of a batch by what any names."""
    context: dict[str, Any] = _service_context(body)
    if named := frozenset().union(*(attributes for _, _, attributes in _statements(body))):
        context["dynamodb:Attributes"] = sorted(named)
    return context


def _context_with_namespace(service: str, action: str, body: bytes, *request: Any) -> dict[str, Any]:
    """The condition keys of a request of any service: MiniStack asks for its tags at this place."""
    context: dict[str, Any] = _tag_context(service, action, body, *request)
    if action == "cloudwatch:PutMetricData":
        with contextlib.suppress(ValueError, AttributeError):
            context["cloudwatch:namespace"] = json.loads(body).get("Namespace", "")
    return context


def _statements(body: bytes) -> Iterator[tuple[str, str, frozenset[str]]]:
    """What the statements of a request do, without those that cannot be read, which fail in any case."""
    request = json.loads(body or b"{}")
    for member in _MEMBERS.values():
        found = request.get(member, [])
        for text in [found] if isinstance(found, str) else [each["Statement"] for each in found]:
            with contextlib.suppress(ValueError):
                yield _read(text)


@functools.lru_cache(maxsize=256)
def _read(text: str) -> tuple[str, str, frozenset[str]]:
    """What a statement does, to which table, and the attributes that it names.

    Raises:
        ValueError: it is no statement.
    """
    parsed = dynamodb._parse_partiql(text, [{"S": ""}] * text.count("?"))
    named = {*parsed.get("item", ()), *(path.split(".")[0].split("[")[0] for path in parsed.get("projections") or ())}
    named.update(path[0] for path, _ in parsed.get("assignments") or ())
    named.update(path[0] for path in parsed.get("removes") or ())
    named.update(_paths_in([parsed.get("where"), [value for _, value in parsed.get("assignments") or ()]]))
    return parsed["op"], parsed["table"], frozenset(named)


def _paths_in(node: Any) -> Iterator[str]:
    """The attributes in an expression as MiniStack has parsed it."""
    if isinstance(node, tuple) and node and node[0] == "path":
        yield node[1][0]
    elif isinstance(node, (tuple, list)):
        for inner in node:
            yield from _paths_in(inner)
