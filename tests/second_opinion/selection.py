"""Which tests are run for a second opinion. A test that is left out is so by a rule that has a name."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

RUNTIMES = tuple(
    f"agent/tests/test_{name}.py" for name in ("batches", "handlers", "processes", "runtimes", "sandbox", "worker")
)


@dataclass(frozen=True)
class Rule:
    """A reason to leave a test out."""

    name: str
    why: str
    applies: Callable[[pytest.Function], bool]


def _parameter(test: pytest.Function, name: str) -> object:
    callspec = getattr(test, "callspec", None)
    return callspec.params.get(name) if callspec else None


RULES = (
    Rule(
        "no-storage",
        "It uses neither queues nor rows.",
        lambda test: "service_endpoints" not in test.fixturenames,
    ),
    Rule(
        "workflow-over-rows",
        "A workflow of the embedded AWS reads the rows of the embedded AWS and no others.",
        lambda test: "machine" in test.fixturenames,
    ),
    Rule(
        "runtimes",
        "It is about processes that run handlers, which never reach queues and rows.",
        lambda test: test.nodeid.startswith(RUNTIMES),
    ),
    Rule(
        "second-runtime",
        "It is run with another runtime already, and queues and rows cannot tell which one it is.",
        lambda test: _parameter(test, "runtime") == "python-lambda",
    ),
)


def rule_of(test: pytest.Function) -> Rule | None:
    """The rule by which a test is left out of the second opinion."""
    return next((rule for rule in RULES if rule.applies(test)), None)
