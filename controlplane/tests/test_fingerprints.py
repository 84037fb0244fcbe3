"""Fingerprints: failures of a kind have one, failures of two kinds have two."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htcgrid_controlplane.rules.fingerprints import fingerprint
from htcgrid_events import FailureKind, TaskError

FOLDERS = st.sampled_from(["/var/task/", "/tmp/a b/", "/home/me/x-1/site-packages/", "C:\\work\\", "./", ""])
NUMBERS = st.integers(0, 10**9)
NODE = (
    "ValueError: no",
    "    at price (file:///var/task/index.mjs:{line}:9)",
    "    at handler (file:///var/task/index.mjs:{line}:2)",
)


def error(*trace: str, message: str = "", type_: str = "ValueError", **more: object) -> TaskError:
    return TaskError.model_validate({"kind": "handler", "type": type_, "message": message, "trace": trace, **more})


def python_frame(folder: str, file: str, line: int, function: str) -> str:
    return f'  File "{folder}{file}", line {line}, in {function}\n    price({line})\n'


@given(FOLDERS, FOLDERS, st.lists(NUMBERS, min_size=2, max_size=2), st.text(), st.text())
def test_the_same_frames_elsewhere_are_the_same_failure(
    one: str, two: str, lines: list[int], message: str, other: str
) -> None:
    frames = ("handler.py", "handler"), ("curves.py", "discount")
    first = error(*(python_frame(one, file, lines[0], name) for file, name in frames), message=message)
    second = error(*(python_frame(two, file, lines[1], name) for file, name in frames), message=other)
    assert fingerprint(first) == fingerprint(second)
    assert re.fullmatch("[0-9a-f]{16}", fingerprint(first))


@given(st.integers(1, 300), st.integers(1, 300))
def test_how_deep_a_recursion_went_does_not_matter(one: int, two: int) -> None:
    def recursion(depth: int) -> TaskError:
        return error(*[python_frame("/var/task/", "tree.py", 7, "walk")] * (depth + 5), type_="RecursionError")

    assert fingerprint(recursion(one)) == fingerprint(recursion(two))


@given(st.sampled_from(["type_", "kind", "file", "function"]))
def test_another_type_kind_file_or_function_is_another_failure(what: str) -> None:
    def made(mark: str) -> TaskError:
        frame = python_frame(
            "/", f"a{mark if what == 'file' else ''}.py", 3, f"price{mark if what == 'function' else ''}"
        )
        kind = FailureKind.TIMEOUT if what == "kind" and mark == "other" else FailureKind.HANDLER
        return error(frame, type_=f"E{mark if what == 'type_' else ''}", kind=kind)

    assert fingerprint(made("one")) != fingerprint(made("other"))


def test_frames_below_the_topmost_do_not_matter() -> None:
    top = [python_frame("/", "deep.py", number, f"f{letter}") for number, letter in enumerate("abcde")]
    one = error(python_frame("/", "main.py", 1, "overnight"), *top)
    other = error(python_frame("/", "main.py", 2, "intraday"), *top)
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(error(*top[:-1])) != fingerprint(one)


def test_traces_of_other_languages_are_read_from_their_top() -> None:
    def node(line: int, *below: str) -> TaskError:
        return error(*(each.format(line=line) for each in NODE[1:]), *("    at x (y.mjs:1:1)",) * 3, *below)

    assert fingerprint(node(1, "    at a (b.mjs:1:1)")) == fingerprint(node(22, "    at c (d.mjs:2:2)"))


@given(NUMBERS, st.integers(16, 2**64))
def test_messages_of_errors_without_a_trace_count_alike_but_for_numbers_and_addresses(number: int, at: int) -> None:
    message = f"worker {number} <Worker at {at:#x}> died of signal 9"
    assert fingerprint(error(message=message)) == fingerprint(
        error(message="worker 0 <Worker at 0x7f> died of signal 9")
    )
    assert fingerprint(error(message=message)) != fingerprint(error(message="the host ran out of memory"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no object 4f1d6a0c9b7e4d2f8a3b5c6d7e8f9012", "no object 00000000000000000000000000000001"),
        ("id 7c9e6679-7425-40de-944b-e07fc1f90ae7", "id 12345678-1234-1234-1234-123456789abc"),
        ("cannot read /tmp/a1/b/curve.csv", "cannot read /mnt/x/curve.csv"),
    ],
)
def test_ids_and_folders_are_no_kinds(one: str, other: str) -> None:
    assert fingerprint(error(message=one)) == fingerprint(error(message=other))


@pytest.mark.parametrize("text", ["a" * 16_000, "1" + "a" * 16_000 + "g", "/" * 16_000, '"/' * 8_000, "-1" * 8_000])
@pytest.mark.timeout(20)
def test_a_hostile_text_is_gone_through_quickly(text: str) -> None:
    assert fingerprint(error(message=text)) == fingerprint(error(message=text))
    assert fingerprint(error(*[text[:1_024]] * 64)) != fingerprint(error(message=text))


def test_ten_thousand_equal_failures_are_one() -> None:
    def failure(number: int) -> TaskError:
        frame = python_frame(f"/tmp/worker-{number % 7}/", "handler.py", 12, "price")
        return error(frame, message=f"no curve {number}", attempts=number % 3)

    assert len({fingerprint(failure(number)) for number in range(10_000)}) == 1
