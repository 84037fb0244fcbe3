"""No-op tasks on Celery with SQS as its broker: `celery_peer.py <tasks> <workers> <endpoint>`.

Results go to files, since SQS keeps none. The time goes on until the last is in hand.
"""

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import boto3
from celery import Celery

_FOLDER = "PEER_RESULTS"
_ENDPOINT = "PEER_ENDPOINT"
_QUEUE = "celery-peer"


def _app() -> Celery:
    endpoint, folder = os.environ[_ENDPOINT], os.environ[_FOLDER]
    queue_url = boto3.client("sqs", region_name="us-east-1", endpoint_url=endpoint).create_queue(QueueName=_QUEUE)
    app = Celery("peer", broker="sqs://", backend=f"file://{folder}")
    app.conf.update(
        task_default_queue=_QUEUE,
        broker_connection_retry_on_startup=True,
        worker_prefetch_multiplier=16,
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {_QUEUE: {"url": queue_url["QueueUrl"]}},
            "polling_interval": 0,
        },
    )
    return app


if os.environ.get(_FOLDER):
    app = _app()

    @app.task(name="peer.same")  # type: ignore[misc,untyped-decorator,unused-ignore]
    def same(event: Any) -> Any:
        """Give the event back."""
        return event


def main() -> None:
    """Print tasks a second."""
    tasks, workers, endpoint = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            _FOLDER: folder,
            _ENDPOINT: endpoint,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        os.environ.update(environment)
        here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "-c", str(workers), "-l", "ERROR"],
            env=environment,
            cwd=here,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _app()
            from celery_peer import same as task

            task.delay({"number": -1}).get(timeout=60)
            began = time.perf_counter()
            sent = [task.delay({"number": number}) for number in range(tasks)]
            for number, result in enumerate(sent):
                if result.get(timeout=120, interval=0.02) != {"number": number}:
                    raise AssertionError("the result is not that of the task")
            print(tasks / (time.perf_counter() - began))
        finally:
            worker.terminate()
            worker.wait(20)


if __name__ == "__main__":
    main()
