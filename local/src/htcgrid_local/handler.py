"""Does the user's function exist? Answered by reading it, so that nobody's code runs before the grid does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from htcgrid_local.errors import HandlerError


def check_handler(folder: Path, handler: str) -> None:
    """Make sure that `handler`, in Lambda's form `module.function`, is defined below `folder`.

    Raises:
        HandlerError: the folder, the module's file or the function in it is missing, or the file is not Python.
    """
    if not folder.is_dir():
        raise HandlerError(f"The function directory {folder} does not exist.")
    module, dot, function = handler.rpartition(".")
    if not dot or not module or not function.isidentifier():
        raise HandlerError(
            f"The handler '{handler}' must have the form module.function, for example 'handler.handler'."
        )
    file = folder / (module.replace(".", "/") + ".py")
    if not file.is_file():
        raise HandlerError(
            f"The function directory {folder} has no {file.relative_to(folder)} for the handler '{handler}'."
        )
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise HandlerError(f"{file} is not valid Python: {error}.") from error
    names = set(_top_level_names(tree))
    if function not in names and "*" not in names:
        raise HandlerError(f"{file} defines no '{function}' for the handler '{handler}'.")


def _top_level_names(tree: ast.Module) -> Iterator[str]:
    for node in _statements(tree.body):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (alias.asname or alias.name for alias in names)
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, including those under its `if` and `try`, where names are often chosen."""
    for node in body:
        yield node
        for field in ("body", "orelse", "finalbody", "handlers"):
            if isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
                yield from _statements(getattr(node, field, []))
