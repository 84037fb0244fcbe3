"""What the functions logged, fetched from the embedded AWS's CloudWatch Logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from htcgrid.private_files import write_private
from htcgrid_local.emulator import client
from htcgrid_local.home import Home
from htcgrid_local.keys import Key


def save_function_logs(home: Home, endpoint_url: str) -> None:
    """Write all that the functions have logged so far into the home's log "functions", oldest first.

    Raises:
        NoGridError: the grid has ended meanwhile, and its key is gone.
        botocore.exceptions.BotoCoreError: the embedded AWS does not answer.
    """
    lines = sorted(_events(client("logs", endpoint_url, Key.read(home.root_key))))
    text = "".join(f"{group} | {message.rstrip()}\n" for _, group, message in lines)
    write_private(home.log("functions"), text)


def _events(logs: Any) -> Iterator[tuple[int, str, str]]:
    for page in logs.get_paginator("describe_log_groups").paginate():
        for group in (group["logGroupName"] for group in page["logGroups"]):
            for found in logs.get_paginator("filter_log_events").paginate(logGroupName=group):
                for event in found["events"]:
                    yield event["timestamp"], group.rsplit("/", 1)[-1], event["message"]
