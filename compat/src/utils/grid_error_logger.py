"""Errors that a program wants to be kept: they went to a log group of the first HTC-Grid, and now to `logging`."""

import logging

_log = logging.getLogger(__name__)


def log(message: str, log_group_name: str = "", log_stream_name: str = "") -> None:
    """Log an error. The names of group and stream are not used any more: agents and clients write no log groups."""
    _log.error("%s", message)
