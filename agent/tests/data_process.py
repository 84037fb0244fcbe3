"""A process that uses a cache of shared data as an agent does: `data_process.py folder source log limit digest size`.

It appends `GET` to the log whenever it begins to fetch, tells what path it holds, and holds it until its input ends.
With `slow` as a seventh word it stops in the middle of fetching, says so, and waits.
"""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from htcgrid_agent.shared_data.cache import DataCache, Item
from htcgrid_agent.shared_data.folder import DataFolder
from htcgrid_agent.telemetry.metrics import Metrics
from htcgrid_events import DataReference


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    folder, source, log, limit, digest, size, *slow = sys.argv[1:]

    def stream(key: str, size: int) -> Iterator[bytes]:
        with Path(log).open("a") as file:
            file.write("GET\n")
        data = Path(source).read_bytes()
        yield data[: size // 2]
        if slow:
            tell("in the middle")
            sys.stdin.read()
        yield data[size // 2 :]

    cache = DataCache(DataFolder(Path(folder)), int(limit), stream, Metrics())
    reference = DataReference(sha256=digest, bytes=int(size), name="curves.bin")
    hold = cache.fetch(Item("tenant", reference), threading.Event())
    tell(str(hold.path))
    sys.stdin.read()
    hold.release()


if __name__ == "__main__":
    main()
