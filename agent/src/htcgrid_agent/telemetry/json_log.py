"""Logs as JSON lines on stderr. A line is short, and carries ids but never a payload or a token; what a worker wrote
is in a field of its own."""

import json
import logging
import sys
from datetime import UTC, datetime

_MAX_MESSAGE = 1_000
_MAX_EXCEPTION_LINE = 300
_MAX_EXCEPTION_LINES = 40
"""Errors may quote payloads, so only the beginning of each line is logged."""
_FIELDS = ("session", "chunk", "task", "attempt", "worker", "queue", "data", "item", "output")


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
            "message": _cut(record.getMessage(), _MAX_MESSAGE),
            "agent": self._agent,
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = _shortened(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _shortened(trace: str) -> str:
    lines = trace.split("\n")
    if len(lines) > _MAX_EXCEPTION_LINES:
        head, tail = _MAX_EXCEPTION_LINES // 4, _MAX_EXCEPTION_LINES - _MAX_EXCEPTION_LINES // 4
        lines = [*lines[:head], f"… {len(lines) - head - tail} more …", *lines[-tail:]]
    return "\n".join(_cut(line, _MAX_EXCEPTION_LINE) for line in lines)


def set_up(agent: str, level: str) -> None:
    """Log this process's records from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(agent))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("htcgrid_agent").setLevel(level)
