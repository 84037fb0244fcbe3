"""Notes which permissions were used: what the policies of a grid could do without."""

import functools
from collections.abc import Callable
from typing import Any

from ministack.core import iam_evaluator

_used: set[tuple[str, str, str]] = set()


def note_permissions() -> None:
    """Note every decision about a request of a role from now on."""
    iam_evaluator.evaluate = _noting(iam_evaluator.evaluate)


def permissions() -> list[dict[str, str]]:
    """Which actions were allowed so far to which role, by which statement; none has allowed those that were refused."""
    return [{"role": role, "statement": statement, "action": action} for role, statement, action in sorted(_used)]


def _noting(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(evaluate)
    def noting(context: Any, *policies: Any) -> Any:
        result = evaluate(context, *policies)
        kind, _, rest = context.principal_arn.rpartition(":")[2].partition("/")
        if kind == "assumed-role":
            _used.add((rest.partition("/")[0], result.matched_sid, context.action))
        return result

    return noting
