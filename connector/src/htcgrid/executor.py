"""The grid as an executor of the standard library."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack

from htcgrid._aio.process import OwnProcess
from htcgrid.calls import call_event
from htcgrid.options import SubmitOptions, session_options

if TYPE_CHECKING:
    from htcgrid._core.gatherer import Gatherer
    from htcgrid.grid import Grid

_P = ParamSpec("_P")
_T = TypeVar("_T")

Encode = Callable[[Callable[..., object], tuple[object, ...], Mapping[str, object]], object]
"""From a call's function, arguments and keyword arguments to the event that is sent."""


class GridExecutor(Executor):
    """Runs calls on a grid, behind the interface of `concurrent.futures.Executor`.

        with GridExecutor(grid) as executor:
            futures = [executor.submit(risk.price, trade) for trade in trades]

    The grid runs deployed handlers and never code that was sent, so a call travels as an event: by default that of
    `htcgrid.calls.call_event`, which names the function, for workers whose handler is `htcgrid.calls.call_handler`.
    Other handlers are served by another `encode`, such as `lambda fn, args, kwargs: args[0]` for one that takes the
    first argument as it is. Arguments and results are JSON.

    All calls are tasks of one session, which is created with the first and closed by `shutdown`; its deadline
    (`timeout`) bounds the executor's life. Calls that come within some 10 ms travel together, up to 128 of them.
    """

    def __init__(self, grid: "Grid", *, encode: Encode = call_event, **options: Unpack[SubmitOptions]) -> None:
        """
        Args:
            grid: Where to run. It must stay open until `shutdown` has returned and all calls are done.
            encode: Makes the event of a call.
            **options: See `SubmitOptions`.

        Raises:
            InvalidOption: an option is unknown or its value illegal.
        """
        self._grid = grid
        self._encode = encode
        self._options = session_options(options)
        self._gatherer: Gatherer | None = None
        self._process = OwnProcess()
        self._lock = threading.Lock()
        self._shut = False

    def __repr__(self) -> str:
        return f"<GridExecutor on {self._grid!r}, session {self.session_id}>"

    @property
    def session_id(self) -> str | None:
        """The id of the executor's session; none before the first call was sent."""
        return None if self._gatherer is None else self._gatherer.session_id

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_T]":
        """Have a call run. Until it is sent, its future can be cancelled.

        Raises:
            InvalidTask: the event is not JSON.
            TypeError: the function cannot be named (see `call_event`).
            RuntimeError: the executor was shut down; `BrokenExecutor`: the grid took no more calls.
        """
        event = self._encode(fn, args, kwargs)
        self._process.check()
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._gatherer is None:
                self._gatherer = self._grid._gatherer(self._options)
            if self._gatherer.fault is not None:
                raise BrokenExecutor(f"the grid takes no more calls: {self._gatherer.fault}")
            future: Future[Any] = self._gatherer.add(event)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls and close the session. A second call does nothing.

        Args:
            wait: Wait until all calls are done.
            cancel_futures: Cancel those that have not been sent yet. Those on the grid go on.
        """
        self._process.check()
        with self._lock:
            self._shut = True
            gatherer = self._gatherer
        if gatherer is None:
            return
        if cancel_futures:
            gatherer.cancel_pending()
        gatherer.close()
        if wait:
            wait_for(list(gatherer.futures))
            gatherer.closed.wait()
