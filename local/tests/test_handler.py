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
        "other, handler = make()",
        "for handler in make(): break",
        "with make() as handler: pass",
        "(handler := make())",
        "while True:\n    def handler(event, context): ...\n    break",
        "match make():\n    case 1: handler = 1",
        "globals()['handler'] = make()",
        "import sys\nsetattr(sys.modules[__name__], 'handler', make())",
        "def __getattr__(name): ...",
        "def make():\n    global handler\n    handler = 1\nmake()",
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


@pytest.mark.parametrize("name", ["my_pkg/__init__.py", "my_pkg.pyc", "my_pkg.cpython-311-x86_64-linux-gnu.so"])
def test_a_handler_may_be_in_a_package_or_compiled(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("def handler(event, context): ...")

    check_handler(tmp_path, "my_pkg.handler")


def test_a_handler_may_be_in_an_installed_package(tmp_path: Path) -> None:
    check_handler(tmp_path, "json.tool.main")


@pytest.mark.parametrize(
    ("runtime", "handler", "files", "complaint"),
    [
        ("provided", "none", [], "no executable file 'bootstrap'"),
        ("nodejs", "index", ["index.js"], "must have the form file.export"),
        ("nodejs", "index.handler", [], "no index.mjs"),
        ("java", "example.Sum::", ["a.jar"], "must have the form package.Class::method"),
        ("java", "example.Sum::handle", [], "neither jars nor classes"),
        ("cobol", "a.b", [], "There is no runtime 'cobol'; there are: auto, python"),
    ],
)
def test_each_runtime_has_its_own_check(
    tmp_path: Path, runtime: str, handler: str, files: list[str], complaint: str
) -> None:
    for file in files:
        (tmp_path / file).touch()

    with pytest.raises(HandlerError, match=complaint):
        check_handler(tmp_path, handler, runtime)


def test_functions_that_are_not_python_need_no_python(tmp_path: Path) -> None:
    bootstrap = tmp_path / "bootstrap"
    bootstrap.write_text("#!/bin/sh")
    bootstrap.chmod(0o755)

    check_handler(tmp_path, "handler.handler")
    check_handler(tmp_path, "handler.handler", "provided")


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
