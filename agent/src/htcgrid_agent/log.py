"""Logs as JSON lines on stderr. A line carries ids and never a payload or a token."""

import json
import logging
import sys
from datetime import UTC, datetime

_FIELDS = ("session", "chunk", "task", "attempt", "worker", "queue")


class JsonLines(logging.Formatter):
    """One JSON object per record, with whichever of the grid's ids were given as `extra`."""

    def __init__(self, agent: str) -> None:
        super().__init__()
        self._agent = agent

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        line: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
            "agent": self._agent,
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up(agent: str, level: str) -> None:
    """Log this process's records from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(agent))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("htcgrid_agent").setLevel(level)
