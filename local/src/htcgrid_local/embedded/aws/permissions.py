"""A batch authorised as the single actions in it, as AWS does.

`SendMessageBatch` as `sqs:SendMessage` ("Actions, resources, and condition keys for Amazon SQS"), each statement of a
`BatchExecuteStatement` as `dynamodb:PartiQLInsert` and so on, on its table. MiniStack 1.5 asks for actions named after
the batches, and for PartiQL on every resource.
"""

import json
import re
from typing import Any

from ministack.core import iam_actions

_STATEMENT = re.compile(r'\s*(INSERT|UPDATE|DELETE|SELECT)\b[^"]*"([^"]+)"', re.IGNORECASE)
_transaction_checks = iam_actions.dynamodb_transaction_checks
_action_of = iam_actions.extract_iam_action


def authorise_batches_as_aws_does() -> None:
    """Make MiniStack ask for the single actions."""
    iam_actions.extract_iam_action = _action_of_single
    iam_actions.dynamodb_transaction_checks = _checks_of_statements


def _action_of_single(service: str, *request: Any) -> str | None:
    action: str | None = _action_of(service, *request)
    return action.removesuffix("Batch") if action and service == "sqs" else action


def _checks_of_statements(action: str, body: bytes, region: str, account: str) -> list[tuple[str, str]]:
    if action != "dynamodb:BatchExecuteStatement":
        checks: list[tuple[str, str]] = _transaction_checks(action, body, region, account)
        return checks
    found = (_STATEMENT.match(member["Statement"]) for member in json.loads(body)["Statements"])
    return sorted(
        {
            (f"dynamodb:PartiQL{match[1].title()}", f"arn:aws:dynamodb:{region}:{account}:table/{match[2]}")
            for match in found
            if match
        }
    )
