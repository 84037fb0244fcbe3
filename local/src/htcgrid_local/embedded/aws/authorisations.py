"""Notes which permissions were used: what the policies of a grid could do without."""

import functools
from collections.abc import Callable
from typing import Any

from ministack.core import iam_evaluator

_used: set[tuple[str, str, str]] = set()


def note_permissions() -> None:
    """Note every decision about a request of a role from now on."""
    iam_evaluator.evaluate = _noting_allowed(iam_evaluator.evaluate)
    iam_evaluator.enforce = _noting_refused(iam_evaluator.enforce)


def permissions() -> list[dict[str, str]]:
    """Which actions were allowed so far to which role, by which statement; none has allowed those that were refused."""
    return [{"role": role, "statement": statement, "action": action} for role, statement, action in sorted(_used)]


def _noting_allowed(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(evaluate)
    def noting(context: Any, *policies: Any) -> Any:
        result = evaluate(context, *policies)
        # Policies of resources are evaluated by the same function; whether a request is refused, only enforce knows.
        if result.decision == "Allow":
            _note(context.principal_arn, result.matched_sid, context.action)
        return result

    return noting


def _noting_refused(enforce: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(enforce)
    def noting(access_key: str, action: str, *more: Any, **named: Any) -> Any:
        result = enforce(access_key, action, *more, **named)
        if isinstance(result, iam_evaluator.EvalResult):
            _note(result.principal_arn, "", action)
        return result

    return noting


def _note(principal: str, statement: str, action: str) -> None:
    kind, _, rest = principal.rpartition(":")[2].partition("/")
    if kind == "assumed-role":
        _used.add((rest.partition("/")[0], statement, action))
