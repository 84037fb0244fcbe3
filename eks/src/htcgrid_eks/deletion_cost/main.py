"""The program `htcgrid-deletion-cost`."""

import json
import logging
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from kubernetes import config
from kubernetes.client import CoreV1Api
from pydantic import Field, PositiveFloat

from htcgrid_eks.deletion_cost.agents import Agents
from htcgrid_eks.deletion_cost.controller import Controller
from htcgrid_eks.deletion_cost.health import Health
from htcgrid_eks.deletion_cost.pool import Pool
from htcgrid_eks.errors import EksError
from htcgrid_eks.settings import EnvironmentSettings

_LOG = logging.getLogger(__name__)
_HANGS_AFTER: Final = 60.0
_TAKE_BACK: Final = timedelta(seconds=20)
"""Of the 30 s that the pod has after SIGTERM."""

_Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(EnvironmentSettings):
    """Whose costs are kept, and how often."""

    namespace: str
    selector: str = "app.kubernetes.io/name=htcgrid-agents"
    """Labels of the agents' pods."""
    agent_port: _Port = 8080
    """Where agents answer `/busy`."""
    interval_seconds: PositiveFloat = 5
    patches_per_second: PositiveFloat = 10
    """Most on average over an interval."""
    health_host: str = "127.0.0.1"
    """In a pod `0.0.0.0`, or `::`."""
    health_port: _Port = 8081
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


def main() -> int:
    """Keep costs until SIGTERM or SIGINT, take them back, and give the exit code."""
    try:
        settings = Settings.from_environment()
        config.load_config()  # type: ignore[no-untyped-call]
    except (EksError, config.ConfigException) as error:
        sys.stderr.write(f"htcgrid-deletion-cost: {error}\n")
        return 2
    _set_up_log(settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _run(settings, CoreV1Api(), stop)
    return 0


def _run(settings: Settings, core: CoreV1Api, stop: threading.Event) -> None:
    interval = timedelta(seconds=settings.interval_seconds)
    pool = Pool(core, settings.namespace, settings.selector)
    agents = Agents(settings.agent_port)
    controller = Controller(core, pool, agents, interval, settings.patches_per_second)
    health = Health(settings.health_host, settings.health_port, _HANGS_AFTER + settings.interval_seconds)
    pool.start()
    _LOG.info("costs are kept in namespace %s; health is answered on port %d", settings.namespace, health.port)
    began = time.monotonic()
    while not stop.wait(max(0.0, began + settings.interval_seconds - time.monotonic())):
        began = time.monotonic()
        controller.round()
        health.beat()
    controller.take_back(_TAKE_BACK)
    for part in (pool, agents, controller, health):
        part.close()


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _set_up_log(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("htcgrid_eks").setLevel(level)
