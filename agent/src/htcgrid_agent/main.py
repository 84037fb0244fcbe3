"""The program `htcgrid-agent`."""

import argparse
import asyncio
import logging
import signal
import sys

import botocore.session
import uvloop
from botocore.exceptions import BotoCoreError

from htcgrid_agent.agent import Agent
from htcgrid_agent.errors import AgentError
from htcgrid_agent.log import set_up
from htcgrid_agent.settings import Settings, load_settings

_LOG = logging.getLogger(__name__)


def main() -> int:
    """Run an agent until SIGTERM or SIGINT; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="htcgrid-agent",
        description="Pulls chunks from HTC-Grid's task queues and runs their tasks on Lambda runtimes. "
        "Reads its settings from HTCGRID_* variables and the AWS ones that every SDK knows.",
    )
    parser.add_argument("--check", action="store_true", help="say whether the settings are right, and exit")
    check = parser.parse_args().check
    try:
        settings = load_settings()
        session = botocore.session.get_session()
        if check:
            sys.stdout.write("The settings are right.\n")
            return 0
        set_up(settings.agent_id, settings.log_level)
        return uvloop.run(_run(settings, session))
    except (AgentError, BotoCoreError) as error:
        sys.stderr.write(f"htcgrid-agent: {error}\n")
        return 2


async def _run(settings: Settings, session: botocore.session.Session) -> int:
    agent = Agent(settings, session)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    return await agent.run()
