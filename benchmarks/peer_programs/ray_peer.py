"""No-op tasks on Ray: `ray_peer.py <tasks> <workers> <endpoint>`."""

import sys
import time


def main() -> None:
    """Print tasks a second."""
    import ray

    tasks, workers = int(sys.argv[1]), int(sys.argv[2])
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="error")
    same = ray.remote(lambda event: event)
    events = [{"number": number} for number in range(tasks)]
    ray.get([same.remote(event) for event in events[:100]])
    began = time.perf_counter()
    results = ray.get([same.remote(event) for event in events])
    seconds = time.perf_counter() - began
    if results != events:
        raise AssertionError("the results are not those of the tasks")
    ray.shutdown()
    print(tasks / seconds)


if __name__ == "__main__":
    main()
