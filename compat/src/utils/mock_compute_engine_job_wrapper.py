"""Tasks for the mock compute engine of the first HTC-Grid, which sleeps, and a check of what it answered."""

import json


class MockComputeEngineJobWrapper:
    """Makes jobs of equal tasks and checks their results.

    Args:
        worker_arguments: What each task gets, separated by spaces: milliseconds to sleep first.
        n_tasks_per_job: Tasks of a job.
        payload_options: Not used, as in the first HTC-Grid.
    """

    def __init__(self, worker_arguments: str, n_tasks_per_job: int, payload_options: object = None) -> None:
        self.worker_arguments = worker_arguments
        self.n_tasks_per_job = n_tasks_per_job
        self.payload_options = payload_options
        self.expected_output_string = ""

    def form_dict_task_definition(self) -> dict[str, list[str]]:
        """The event of one task.

        Raises:
            ValueError: the first argument is no number of milliseconds from 0 up.
        """
        arguments = self.worker_arguments.split(" ")
        if not arguments[0].isdecimal():
            raise ValueError(f"worker_arguments={self.worker_arguments!r} must begin with milliseconds from 0 up")
        self.expected_output_string = arguments[0]
        return {"worker_arguments": arguments}

    def generate_binary_job(self) -> list[dict[str, list[str]]]:
        """The events of one job, for `AWSConnector.send`."""
        return [self.form_dict_task_definition()] * self.n_tasks_per_job

    def verify_results(self, stdout: str) -> tuple[bool, str]:
        """Whether a result is the one expected, with or without the quotes of JSON, and else a sentence about it."""
        received = stdout.rstrip()
        if self.expected_output_string in (received, _unquoted(received)):
            return True, ""
        return False, f"Expected: [{self.expected_output_string}] != Received [{received}]"


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text
