"""The one table of a session's options agrees with whatever else must name them."""

import re
from pathlib import Path
from typing import Any

import pytest
from annotated_types import Ge, Le, Lt
from typer.testing import CliRunner

from htcgrid import SubmitOptions
from htcgrid.cli.application import app
from htcgrid.option_table import OPTIONS, Option, markdown
from htcgrid_events import SessionOptions

DOCS = Path(__file__).parents[2] / "docs" / "connector.md"


def bounds(option: Option) -> dict[type, Any]:
    """The bounds that the contract sets."""
    field = SessionOptions.model_fields[option.contract_field]
    inner = [metadata for part in getattr(field.annotation, "__args__", ()) for metadata in _metadata(part)]
    return {
        type(found): getattr(found, type(found).__name__.lower())
        for found in (*field.metadata, *inner)
        if isinstance(found, Ge | Le | Lt)
    }


def _metadata(part: Any) -> list[Any]:
    """The parts of `Annotated[int, Field(ge=0)] | None`."""
    return [each for info in getattr(part, "__metadata__", ()) for each in getattr(info, "metadata", ())]


def test_it_has_every_option_of_the_contract_and_of_the_type_hints() -> None:
    assert {option.contract_field for option in OPTIONS} == set(SessionOptions.model_fields)
    assert [option.name for option in OPTIONS] == list(SubmitOptions.__annotations__)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_it_says_the_bounds_and_defaults_of_the_contract(option: Option) -> None:
    said = {Ge: option.low, Le: option.high, Lt: option.below}
    assert bounds(option) == {bound: value for bound, value in said.items() if value is not None}
    assert SessionOptions.model_fields[option.contract_field].default == option.default


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_the_type_hints_say_the_same_defaults(option: Option) -> None:
    source = Path(str(__import__("htcgrid.options").options.__file__)).read_text(encoding="utf-8")
    docstring = re.search(rf'\n    {option.name}: [^\n]+\n    """(.*?)"""', source, re.DOTALL)
    assert docstring is not None
    words = re.sub(r"\s+", " ", docstring[1]).replace("1 s.", "1 second.").replace("one day", "1 day")
    assert f"Default: {option.default_in_words}" in words.replace("`", "")


def test_the_command_line_has_them_all() -> None:
    told = re.sub(r"\s+", " ", CliRunner().invoke(app, ["submit", "--help"]).output)
    for option in OPTIONS:
        legal = f", {option.range}" if option.range else ""
        start = rf"--{option.name.replace('_', '-')} (\S+ )?{re.escape(option.meaning[:-1] + legal)}"
        assert re.search(rf"{start}[^.]*\. Default: {re.escape(option.default_in_words)}\.", told), option.name


def test_the_documentation_has_them_all() -> None:
    assert markdown() in DOCS.read_text(encoding="utf-8")
