"""`TimeoutSeconds` of a JSONata state as an expression, which AWS takes.

"Task workflow state", AWS Step Functions Developer Guide. MiniStack 1.5 hands the expression's text to a wait that
takes a number; `tests/e2e/test_emulator_gaps.py` notices when that is no longer so.
"""

import threading
from typing import Any

from ministack.services import stepfunctions

_evaluated = threading.local()
_apply_arguments = stepfunctions._apply_jsonata_arguments
_invoke_with_callback = stepfunctions._invoke_with_callback


def evaluate_timeouts() -> None:
    """Make MiniStack evaluate the expression."""
    stepfunctions._apply_jsonata_arguments = _apply_arguments_and_timeout
    stepfunctions._invoke_with_callback = _invoke_with_timeout


def _apply_arguments_and_timeout(state: dict[str, Any], given: Any, context: Any = None) -> Any:
    # Arguments are evaluated just before the task is invoked, by the same thread and with the same variables.
    _evaluated.timeout = None
    if isinstance(state.get("TimeoutSeconds"), str):
        _evaluated.timeout = stepfunctions._jsonata_state_field(state, "TimeoutSeconds", "number", given, context)
    return _apply_arguments(state, given, context)


def _invoke_with_timeout(resource: str, effective: Any, token: str, state: dict[str, Any]) -> Any:
    timeout = getattr(_evaluated, "timeout", None)
    return _invoke_with_callback(
        resource, effective, token, state if timeout is None else state | {"TimeoutSeconds": timeout}
    )
