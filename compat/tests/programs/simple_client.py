"""A program as it was written for the first HTC-Grid, which reports by `logging.info`."""

# ruff: noqa: LOG015 - as such programs do

import json
import logging
import os
from pathlib import Path

from api.connector import AWSConnector
from utils.state_table_common import TASK_STATE_FINISHED

config = json.loads(Path(os.environ["AGENT_CONFIG_FILE"]).read_text())

if __name__ == "__main__":
    logging.info("Simple Client")
    connector = AWSConnector()
    connector.init(config, username=os.environ.get("USERNAME", ""), password=os.environ.get("PASSWORD", ""))
    connector.authenticate()
    submission = connector.send([{"worker_arguments": ["10", "1", "1"]}, {"worker_arguments": ["20", "1", "1"]}])
    logging.info(submission)
    results = connector.get_results(submission, timeout_sec=100)
    logging.info(results)
    logging.info("finished: %s", len(results[TASK_STATE_FINISHED]))
