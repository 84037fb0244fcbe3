"""Calls of Python functions as events: what `GridExecutor` sends by default, and the handler that carries them out.

The grid runs handlers that were deployed, and never code that was sent. So a function is named, not shipped: it must
lie in a module that the image of the workers has as well.

    # the workers' handler, in their image
    from htcgrid.calls import call_handler

    handler = call_handler("risk")  # functions of the package `risk`, and no others
"""

import sys
from collections.abc import Callable, Mapping
from functools import reduce
from importlib import import_module
from typing import Any


def call_event(function: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
    """The event that stands for a call: `{"function": "module:name", "args": [...], "kwargs": {...}}`.

    Raises:
        TypeError: the function has no name by which another process could find it, as a lambda or a bound method has
            none.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or module == "__main__" or _found(module, name) is not function:
        raise TypeError(
            f"{function!r} cannot be named to the grid: give a function of a module that the workers have as well"
        )
    return {"function": f"{module}:{name}", "args": list(args), "kwargs": dict(kwargs)}


def call_handler(*packages: str) -> Callable[[Any, object], object]:
    """A handler that carries out the events of `call_event`.

    Args:
        packages: The modules and packages whose functions may be called: those that are defined in them, not what
            they import from elsewhere. Whoever may submit tasks may call these with any arguments, so name what is
            meant for it.

    Raises:
        ValueError: no package is given.
    """
    if not packages:
        raise ValueError("name the packages whose functions may be called")

    def handler(event: Any, _context: object = None) -> object:
        module, _, name = event["function"].partition(":")
        if not _lies_in(module, packages):
            raise PermissionError(f"{module} is not among the packages whose functions may be called")
        import_module(module)
        function = _found(module, name)
        if function is None:
            raise LookupError(f"there is no function {name} in {module}")
        # A module also gives what it imports: `risk:os.popen` would run any shell command.
        if not callable(function) or not _lies_in(getattr(function, "__module__", None), packages):
            raise PermissionError(
                f"{name} is not a function that is defined in the packages whose functions may be called"
            )
        return function(*event["args"], **event["kwargs"])

    return handler


def _lies_in(module: object, packages: tuple[str, ...]) -> bool:
    """Whether a module's name is that of one of the packages or of something within."""
    return isinstance(module, str) and any(module == name or module.startswith(f"{name}.") for name in packages)


def _found(module: str, name: str) -> Any:
    """What lies in a loaded module under a name, which may have dots; none if nothing does."""
    try:
        return reduce(getattr, name.split("."), sys.modules[module])
    except (KeyError, AttributeError):
        return None
