"""A small thread pool for payloads on their way between the agent and the data plane."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Transfers:
    """Runs slow calls beside the threads that others wait for. `on_bug` is told of unexpected errors."""

    def __init__(self, threads: int, on_bug: Callable[[BaseException], None]) -> None:
        self._pool = ThreadPoolExecutor(threads, "transfer")
        self._on_bug = on_bug

    def submit(self, function: Callable[..., None], *arguments: object) -> None:
        """Call `function` soon."""
        self._pool.submit(function, *arguments).add_done_callback(self._check)

    def close(self) -> None:
        """Make no more calls."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _check(self, future: "Future[None]") -> None:
        if not future.cancelled() and (error := future.exception()):
            self._on_bug(error)
