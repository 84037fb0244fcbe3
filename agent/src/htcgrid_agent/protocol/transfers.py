"""A few threads for what takes long: payloads on their way between the agent and the data plane."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Transfers:
    """Does things beside the threads that others wait for. `broke` is told of errors that nobody expected."""

    def __init__(self, threads: int, broke: Callable[[BaseException], None]) -> None:
        self._pool = ThreadPoolExecutor(threads, "transfer")
        self._broke = broke

    def do(self, function: Callable[..., None], *arguments: object) -> None:
        """Call `function` soon."""
        self._pool.submit(function, *arguments).add_done_callback(self._check)

    def close(self) -> None:
        """Do nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _check(self, future: "Future[None]") -> None:
        if not future.cancelled() and (error := future.exception()):
            self._broke(error)
