"""The program `htcgrid-agent`."""

import argparse
import asyncio
import logging
import os
import signal
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import uvloop
from botocore.exceptions import BotoCoreError

from htcgrid_agent.agent import Agent
from htcgrid_agent.aws.endpoints import refuse_unsupported
from htcgrid_agent.errors import AgentError, BadFunction
from htcgrid_agent.execution.trial import try_handler
from htcgrid_agent.runtimes.child_process import Spawner
from htcgrid_agent.runtimes.function import Function, RuntimeKind
from htcgrid_agent.runtimes.function_digest import function_digest
from htcgrid_agent.runtimes.launcher import Launcher
from htcgrid_agent.runtimes.sandbox import Isolation, Sandbox, guard_agent, isolate, remove_leftovers
from htcgrid_agent.runtimes.sandbox.host import secrets_of
from htcgrid_agent.runtimes.sidecar import Pod
from htcgrid_agent.settings import Settings, data_folder, load_settings
from htcgrid_agent.shared_data.folder import DataFolder
from htcgrid_agent.telemetry.json_log import set_up
from htcgrid_dataplane import DataPlaneError
from htcgrid_dataplane.aws_session import open_session

_LOG = logging.getLogger(__name__)


def main() -> int:
    """Run an agent until SIGTERM or SIGINT, and give the exit code."""
    parser = argparse.ArgumentParser(
        prog="htcgrid-agent",
        description="Pulls chunks from HTC-Grid's task queues and runs their tasks on Lambda runtimes. "
        "Reads its settings from HTCGRID_* variables and the AWS ones that every SDK knows.",
    )
    parser.add_argument(
        "--check", action="store_true", help="check the settings and that a worker loads the handler, and exit"
    )
    check = parser.parse_args().check
    try:
        settings = load_settings()
        session = open_session()
        refuse_unsupported(session)
        root = data_folder(settings)
        data = DataFolder(root) if root else None
        launcher, arn, isolation = _runtimes(settings, session.get_config_variable("region") or "", data)
        if check:
            return _checked(settings, launcher, arn)
        set_up(settings.agent_id, settings.log_level)
        guard_agent()
        if isolation:
            _LOG.info(" ".join(isolation.lines()))
            if removed := remove_leftovers(Path(tempfile.gettempdir())):
                _LOG.info("temporary folders of killed workers were removed: %d", removed)
        return uvloop.run(_run(Agent(settings, session, launcher, arn, data)))
    except (AgentError, DataPlaneError, BotoCoreError) as error:
        sys.stderr.write(f"htcgrid-agent: {error}\n")
        return 2


def _checked(settings: Settings, launcher: Launcher, arn: str) -> int:
    """Tell on stdout that all is well; gives the exit code.

    Raises:
        HandlerNotLoaded: a worker that was started for it did not load the handler.
    """
    if not launcher.own:
        sys.stdout.write("The settings are right.\n")
        return 0
    uvloop.run(try_handler(launcher, arn, timedelta(seconds=settings.init_timeout_seconds)))
    sys.stdout.write("The settings are right, and a worker loads the handler.\n")
    return 0


def _runtimes(settings: Settings, region: str, data: DataFolder | None) -> tuple[Launcher, str, Isolation | None]:
    """Where workers come from, the ARN by which they know their function, and how those started here are isolated.

    Raises:
        BadFunction: the program that would run the function is missing, or a file of it cannot be read.
        BadSettings: the host does not allow the sandbox that is demanded, or the folder of the workers is not usable.
    """
    function = Function(
        path=(settings.function_dir or Path()).resolve(),
        handler=settings.handler or "",
        name=settings.function_name,
        memory_mb=settings.function_memory_mb,
        region=region,
        environment=settings.function_environment,
        runtime=settings.runtime,
    )
    if settings.worker_dir:
        # Of what runs there no more is known than is said.
        text = settings.runtime is not RuntimeKind.AUTO and not settings.runtime.is_python
        pod = Pod(settings.worker_dir, settings.workers, settings.runtime_port, text, _digest(settings))
        return pod, function.arn, None
    program = Path(function.command()[0])
    sandbox = Sandbox(
        namespaces=True,
        own_user=False,
        disk_mb=settings.worker_tmp_mb,
        memory_mb=settings.worker_memory_mb,
        processes=settings.worker_processes,
        code=(*function.folders, *((data.files,) if data else ())),
        shown=(*function.programs, *settings.shared_dirs),
        hidden=(
            *secrets_of(os.environ),
            *(path.resolve() for path in settings.hidden_paths),
            *((data.root,) if data else ()),
        ),
    )
    needed = [function.path, *function.path.iterdir(), program, *settings.shared_dirs]
    if data:
        needed.append(data.root)
    sandbox, isolation = isolate(settings.sandbox, sandbox, needed)
    return Spawner(function, sandbox, _digest(settings)), function.arn, isolation


def _digest(settings: Settings) -> str:
    """Which version of the function is run; empty where only another container has it, which may tell.

    Raises:
        BadFunction: a file of the function cannot be read.
    """
    if settings.function_dir is None:
        return ""
    try:
        return function_digest(settings.function_dir)
    except OSError as error:
        raise BadFunction(f"The function directory {settings.function_dir} cannot be read: {error}.") from error


async def _run(agent: Agent) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    return await agent.run()
