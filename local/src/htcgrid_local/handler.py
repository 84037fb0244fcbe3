"""Does the user's function exist? Answered by reading it, so that nobody's code runs before the grid does.

Only what surely cannot be run is refused: whether it can be loaded, a worker finds out when the grid starts.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from htcgrid_local.errors import HandlerError

_UNREADABLE: Final = frozenset({"globals", "vars", "setattr", "exec", "modules", "__dict__", "__getattr__"})
"""A module that mentions one of these may define a name in a way that its text does not show."""
_JAVASCRIPT: Final = (".js", ".mjs", ".cjs")


def check_handler(folder: Path, handler: str, runtime: str = "auto") -> None:
    """Make sure that the function in `folder` may have such a handler; `runtime` is one that agents know.

    Raises:
        HandlerError: the folder is missing, its runtime cannot be started, or it has no such handler.
    """
    # Imported when it is needed: half of the commands' start would go into it.
    from htcgrid_agent.errors import BadFunction
    from htcgrid_agent.runtimes.function import Function, RuntimeKind

    if not folder.is_dir():
        raise HandlerError(f"The function directory {folder} does not exist.")
    try:
        kind = RuntimeKind(runtime)
    except ValueError as error:
        raise HandlerError(f"There is no runtime '{runtime}'; there are: {', '.join(RuntimeKind)}.") from error
    function = Function(folder, handler, "htcgrid-function", 128, "", {}, kind)
    match function.kind:
        case RuntimeKind.PROVIDED:
            pass
        case RuntimeKind.NODEJS:
            _check_nodejs(folder, handler)
        case RuntimeKind.JAVA:
            _check_java(folder, handler)
        case _:
            _check_python(folder, handler)
    try:
        function.command()
    except BadFunction as error:
        raise HandlerError(str(error)) from error


def _check_nodejs(folder: Path, handler: str) -> None:
    module, dot, export = handler.rpartition(".")
    if not dot or not module or not export:
        raise HandlerError(f"The handler '{handler}' must have the form file.export, for example 'index.handler'.")
    # The export may be nested: file.object.method.
    names = [module, handler.partition(".")[0]]
    if not any((folder / f"{name}{suffix}").is_file() for name in names for suffix in _JAVASCRIPT):
        raise HandlerError(f"The function directory {folder} has no {names[1]}.mjs, .js or .cjs for '{handler}'.")


def _check_java(folder: Path, handler: str) -> None:
    name, _, method = handler.partition("::")
    if not name or ("::" in handler and not method):
        raise HandlerError(
            f"The handler '{handler}' must have the form package.Class::method, for example 'example.Sum::handle'."
        )
    if not any(next(folder.glob(pattern), None) for pattern in ("*.jar", "lib/*.jar", "**/*.class")):
        raise HandlerError(f"The function directory {folder} has neither jars nor classes for the handler '{handler}'.")


def _check_python(folder: Path, handler: str) -> None:
    module, dot, function = handler.rpartition(".")
    if not dot or not module or not function.isidentifier():
        raise HandlerError(
            f"The handler '{handler}' must have the form module.function, for example 'handler.handler'."
        )
    path = folder / module.replace(".", "/")
    file = next((file for file in (path / "__init__.py", path.with_name(f"{path.name}.py")) if file.is_file()), None)
    if file is None:
        if not _is_importable(path, module):
            name = path.relative_to(folder)
            raise HandlerError(f"The function directory {folder} has no {name}.py for the handler '{handler}'.")
        return
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise HandlerError(f"{file} is not valid Python: {error}.") from error
    if not _may_define(tree, function):
        raise HandlerError(f"{file} defines no '{function}' for the handler '{handler}'.")


def _is_importable(path: Path, module: str) -> bool:
    """Whether it is a module in another form (compiled, a package without `__init__.py`) or one that is installed."""
    first = module.replace("/", ".").partition(".")[0]
    compiled = any(path.parent.glob(f"{path.name}.*")) if path.parent.is_dir() else False
    return path.is_dir() or compiled or (first.isidentifier() and importlib.util.find_spec(first) is not None)


def _may_define(tree: ast.Module, name: str) -> bool:
    inner = {id(node) for scope in _scopes(tree) for node in ast.walk(scope) if node is not scope}
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=found) if found in _UNREADABLE:
                return True
            case ast.Attribute(attr=found) if found in _UNREADABLE:
                return True
            case ast.Global(names=names) if name in names:
                return True
            case ast.FunctionDef(name="__getattr__") if id(node) not in inner:
                return True
            case ast.ImportFrom(names=[ast.alias(name="*")]) if id(node) not in inner:
                return True
        if id(node) not in inner and name in _bound(node):
            return True
    return False


def _scopes(tree: ast.Module) -> Iterator[ast.AST]:
    """The functions and classes: what they bind is not the module's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield node


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a statement gives a value."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name for alias in names)
