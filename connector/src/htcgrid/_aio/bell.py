"""A wait that a signal may interrupt."""

from queue import Empty, SimpleQueue


class Bell:
    """Wakes one thread, such as the main thread, which a signal may interrupt while it waits.

    `threading.Condition` and `threading.Event` may raise a RuntimeError then: see `AwaitedWork`.
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake who waits, or who waits next. Called after each change that somebody may wait for."""
        if self._rings.empty():  # one ring says as much as many
            self._rings.put(None)

    def wait(self, seconds: float | None = None) -> None:
        """Return after a ring since the last wait, or after the time: then look what has changed, if anything."""
        try:
            self._rings.get(timeout=seconds)
        except Empty:
            return
