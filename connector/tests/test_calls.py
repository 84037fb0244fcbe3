"""Which functions a handler of calls carries out: those that the named packages define, and none that they import."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from htcgrid.calls import call_event, call_handler

PACKAGE = """
import functools, os, subprocess
from os import system as run_it
from shutil import rmtree
from .models import Model, price
shell = functools.partial(os.system)

@functools.lru_cache
def double(x):
    return 2 * x

class Trade:
    launch = staticmethod(os.popen)
    tools = os

    @classmethod
    def named(cls, name):
        return {"name": name}
"""
MODELS = """
class Model(dict):
    pass

def price(x):
    return x + 1
"""


@pytest.fixture
def risk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of functions."""
    package = tmp_path / "risk_of_calls"
    package.mkdir()
    (package / "__init__.py").write_text(PACKAGE)
    (package / "models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    yield package.name
    for name in [name for name in sys.modules if name.startswith(package.name)]:
        del sys.modules[name]


def call(package: str, place: str, *args: object) -> object:
    return call_handler(package)({"function": place, "args": list(args), "kwargs": {}}, None)


@pytest.mark.parametrize(
    ("name", "result"), [("double", 42), ("price", 22), ("Trade.named", {"name": 21}), ("models.price", 22)]
)
def test_what_the_package_defines_is_called(risk: str, name: str, result: object) -> None:
    assert call(risk, f"{risk}:{name}", 21) == result


@pytest.mark.parametrize(
    "name",
    [
        "os.popen", "run_it", "rmtree", "subprocess.Popen", "shell", "Trade.launch", "Trade.tools.system",
        "models.price.__class__", "models.price.__call__", "Trade.__subclasses__", "Trade.__dict__.get", "__name__",
        "__loader__.get_data", "Model.fromkeys", "double.cache_clear",
    ],
)  # fmt: skip
def test_what_the_package_imports_is_refused(risk: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="is not a function that is defined in the packages"):
        call(risk, f"{risk}:{name}", f"touch {tmp_path / 'owned'}")
    assert not (tmp_path / "owned").exists()


def test_a_name_that_only_begins_alike_is_refused(risk: str) -> None:
    with pytest.raises(PermissionError, match="is not among the packages"):
        call("risk", f"{risk}:double", 21)


def test_a_function_is_named_by_where_it_is_defined(risk: str) -> None:
    module = __import__(risk)
    event = call_event(module.price, (1,), {})
    assert event == {"function": f"{risk}.models:price", "args": [1], "kwargs": {}}
    assert call_handler(risk)(event, None) == 2
