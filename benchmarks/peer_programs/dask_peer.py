"""No-op tasks on Dask distributed: `dask_peer.py <tasks> <workers> <endpoint>`."""

import sys
import time
from typing import Any


def same(event: Any) -> Any:
    """Give the event back."""
    return event


def main() -> None:
    """Print tasks a second."""
    from distributed import Client, LocalCluster

    tasks, workers = int(sys.argv[1]), int(sys.argv[2])
    events = [{"number": number} for number in range(tasks)]
    cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        client.gather(client.map(same, events[:100], pure=False))
        began = time.perf_counter()
        results = client.gather(client.map(same, events, pure=False))
        seconds = time.perf_counter() - began
    if results != events:
        raise AssertionError("the results are not those of the tasks")
    print(tasks / seconds)


if __name__ == "__main__":
    main()
