"""The function called directly, without a grid: what the grid's results are compared with."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from handler import PricingResult

Handler = Callable[[object, object], "PricingResult"]


def load_handler(folder: Path) -> Handler:
    """Import a function's `handler.handler` with its folder on the path, as a Lambda runtime does.

    The module gets a name of its own, since every Lambda function's entry module is called `handler`.
    """
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("portfolio_function_handler", folder / "handler.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder / 'handler.py'} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("Handler", module.handler)
