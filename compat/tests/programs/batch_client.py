"""A program as it was written for the first HTC-Grid: several processes, each with a connector and checked results."""

import json
import os
import sys
from multiprocessing import Process
from pathlib import Path

from api.connector import AWSConnector
from utils.mock_compute_engine_job_wrapper import MockComputeEngineJobWrapper


def submit_and_check(jobs: int, tasks: int) -> None:
    connector = AWSConnector()
    connector.init(json.loads(Path(os.environ["AGENT_CONFIG_FILE"]).read_text()))
    connector.authenticate()
    wrapper = MockComputeEngineJobWrapper("10 1 1", tasks, None)
    submissions = [connector.send(wrapper.generate_binary_job()) for _ in range(jobs)]
    for submission in submissions:
        outputs = connector.get_results(submission, timeout_sec=100)["finished_OUTPUT"]
        for output in outputs:
            verified, message = wrapper.verify_results(output)
            if not verified:
                sys.exit(message)
        sys.stdout.write(f"x{len(outputs)}\n")


if __name__ == "__main__":
    processes = [Process(target=submit_and_check, args=(2, 3)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(process.exitcode or 0 for process in processes))
