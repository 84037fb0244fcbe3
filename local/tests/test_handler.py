from __future__ import annotations

from pathlib import Path

import pytest

from htcgrid_local.errors import HandlerError
from htcgrid_local.handler import check_handler


@pytest.mark.parametrize(
    "source",
    [
        "def handler(event, context): ...",
        "async def handler(event, context): ...",
        "from elsewhere import handler",
        "from elsewhere import run as handler",
        "from elsewhere import *",
        "handler = make()",
        "handler: object = make()",
        "try:\n    from fast import handler\nexcept ImportError:\n    handler = slow",
    ],
)
def test_every_way_to_define_a_handler_is_seen(tmp_path: Path, source: str) -> None:
    (tmp_path / "handler.py").write_text(source)

    check_handler(tmp_path, "handler.handler")


@pytest.mark.parametrize("handler", ["app.pricing.value", "app/pricing.value"])
def test_a_handler_in_a_package_is_found(tmp_path: Path, handler: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/pricing.py").write_text("def value(event, context): ...")

    check_handler(tmp_path, handler)


@pytest.mark.parametrize(
    ("source", "handler", "complaint"),
    [
        ("", "handler", "must have the form module.function"),
        ("", "other.handler", "has no other.py"),
        ("def work(): ...", "handler.handler", "defines no 'handler'"),
        ("class A:\n    def handler(self): ...", "handler.handler", "defines no 'handler'"),
        ("def handler(:", "handler.handler", "is not valid Python"),
    ],
)
def test_a_missing_handler_is_named_in_one_sentence(tmp_path: Path, source: str, handler: str, complaint: str) -> None:
    (tmp_path / "handler.py").write_text(source)

    with pytest.raises(HandlerError, match=complaint) as raised:
        check_handler(tmp_path, handler)

    assert "\n" not in str(raised.value)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(HandlerError, match=r"absent does not exist"):
        check_handler(tmp_path / "absent", "handler.handler")


def test_the_users_code_is_not_executed(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text("raise SystemExit('executed')\ndef handler(event, context): ...")

    check_handler(tmp_path, "handler.handler")
