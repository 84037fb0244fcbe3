"""Log lines carry ids, and stay short whatever they are about."""

import json
import logging
import sys

from hypothesis import given
from hypothesis import strategies as st

from htcgrid_agent.telemetry.json_log import JsonLines


def line(message: str, *arguments: object, error: BaseException | None = None, **ids: object) -> str:
    record = logging.LogRecord("htcgrid_agent", logging.WARNING, __file__, 1, message, arguments, None)
    vars(record).update(ids)
    if error:
        record.exc_info = (type(error), error, error.__traceback__)
    return JsonLines("agent-1").format(record)


def caught(depth: int, message: str) -> BaseException:
    def dive(left: int) -> None:
        if left:
            dive(left - 1)
        raise LookupError(message)

    try:
        dive(depth)
    except LookupError:
        _, error, _ = sys.exc_info()
        assert error
        return error
    raise AssertionError


def test_a_line_says_what_and_about_which_task() -> None:
    said = json.loads(line("a task failed: %s", "crash", session="s", chunk=1, task=2, attempt=3))
    assert said["message"] == "a task failed: crash"
    assert (said["agent"], said["session"], said["chunk"], said["task"], said["attempt"]) == ("agent-1", "s", 1, 2, 3)


@given(st.integers(0, 300), st.text(max_size=5).map(lambda text: text * 60_000))
def test_a_line_is_short_whatever_it_is_about(depth: int, message: str) -> None:
    text = line("%s", message, error=caught(depth, message))
    assert len(text) < 100_000
    said = json.loads(text)
    assert len(said["message"]) < 1_100
    assert len(said["exception"]) < 15_000


def test_what_is_cut_says_how_long_it_was_and_keeps_both_ends() -> None:
    said = json.loads(line("x" * 300_000, error=caught(300, "y" * 300_000)))
    assert said["message"] == "x" * 1_000 + "… (300000 characters)"
    assert said["exception"].startswith("Traceback")
    *_, last = said["exception"].splitlines()
    assert last.startswith("LookupError: yyy")
    assert last.endswith("characters)")
