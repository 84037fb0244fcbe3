"""Reading a source in a thread, for a coroutine that waits for it."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from htcgrid._core.client_loop import UserLoop
from htcgrid._core.intake import Intake

if TYPE_CHECKING:
    from htcgrid._core.client import Client
    from htcgrid._submit.feed import Feed
    from htcgrid.options import JSON


async def send_source(
    client: "Client",
    feed: "Feed",
    tasks: "Iterable[JSON]",
    chunk_size: int | None,
    end: Callable[[Intake], None],
) -> None:
    """Send tasks as they are read in a thread, and call `end` there. When that breaks off, the session is abandoned.

    Raises what the source, `Intake.send_all` and `end` raise, and `GridClosed` when the grid is closed meanwhile.
    """
    loop = UserLoop(client)
    intake = Intake(loop, feed)
    over = asyncio.Event()

    def read() -> None:
        try:
            intake.send_all(tasks, chunk_size)
            end(intake)
        except BaseException as error:  # noqa: BLE001 - raised where the coroutine waits
            loop.post(partial(intake.fail, error))
        else:
            loop.post(over.set)

    start_reading(read, "htcgrid source")
    try:
        await intake.unless_failed(over.wait())
    except BaseException as error:
        await intake.abandon(error, feed.abandon)
        raise


def start_reading(read: Callable[[], None], name: str) -> None:
    """Read a source in a thread of its own, in the caller's context."""
    context = contextvars.copy_context()
    # A daemon, so that a source which waits for ever does not keep the program from ending.
    threading.Thread(target=context.run, args=(read,), name=name, daemon=True).start()
