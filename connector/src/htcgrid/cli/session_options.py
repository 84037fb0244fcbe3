"""The options of a session as parameters of a command, made from their one table."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Literal

import typer

from htcgrid.cli.parameters import seconds
from htcgrid.option_table import OPTIONS, Kind, Option


def with_session_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a parameter for each option of a session. Its `options` are those that the user gives, as
    `Grid.submit` takes them."""
    own = [parameter for parameter in inspect.signature(command).parameters.values() if parameter.name != "options"]
    added = [
        inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(option))
        for option in OPTIONS
    ]

    @wraps(command)
    def with_options(**given: Any) -> None:
        values = {option.name: given.pop(option.name) for option in OPTIONS}
        options = {name: value for name, value in values.items() if value not in (None, [])}
        command(**given, options=options)

    parameters = sorted([*own, *added], key=lambda parameter: parameter.kind)
    vars(with_options)["__signature__"] = inspect.Signature(parameters)
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def _annotation(option: Option) -> Any:
    name, text = f"--{option.name.replace('_', '-')}", _help(option)
    match option.kind:
        case Kind.FLAG:
            return Annotated[bool | None, typer.Option(name, help=text)]
        case Kind.WHOLE:
            return Annotated[int | None, typer.Option(name, help=text)]
        case Kind.NUMBER:
            return Annotated[float | None, typer.Option(name, help=text)]
        case Kind.DURATION | Kind.WHOLE_DURATION:
            return Annotated[float | None, typer.Option(name, metavar="TIME", parser=seconds, help=text)]
        case Kind.ERRORS:
            return Annotated[list[str] | None, typer.Option(name, metavar="TYPE", help=f"{text} Repeatable.")]
        case Kind.CHOICE:
            return Annotated[Literal[option.choices] | None, typer.Option(name, help=text)]
        case Kind.PARTITION:
            return Annotated[str | None, typer.Option(name, help=text)]


def _help(option: Option) -> str:
    legal = f", {option.range}" if option.range else ""
    example = ", such as 90s or 15m" if option.is_duration else ""
    return f"{option.meaning.removesuffix('.')}{legal}{example}. Default: {option.default_in_words}."
