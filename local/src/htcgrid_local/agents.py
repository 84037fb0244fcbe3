"""The agents of a local grid: processes under the template's agent role, which are started again when they die."""

from __future__ import annotations

import json
import logging
import random
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from htcgrid.private_files import write_private
from htcgrid_local.emulator import inherited_environment
from htcgrid_local.errors import AgentStartError
from htcgrid_local.home import Home
from htcgrid_local.keys import REGION, Key
from htcgrid_local.log_excerpts import last_line
from htcgrid_local.partitions import queue_settings
from htcgrid_local.processes import Child, Processes, kill_group

_LOG = logging.getLogger(__name__)
_PROFILE: Final = "htcgrid-agent"
_USER: Final = "htcgrid-agents"
_GRACE: Final = timedelta(seconds=5)
_DRAIN: Final = timedelta(seconds=40)
"""Beyond the time that an agent gives its running tasks after SIGTERM (25 s) and needs to write what they yielded."""
_FIRST_PAUSE: Final = timedelta(seconds=0.5)
_LONGEST_PAUSE: Final = timedelta(seconds=30)
_HEALTHY_AFTER: Final = timedelta(seconds=60)
_UP_WITHIN: Final = timedelta(seconds=60)
_UP_EACH: Final = timedelta(seconds=2)
_UP: Final = b"the agent is up"
"""What an agent says, at level INFO, when it is about to receive."""


@dataclass
class Agent:
    """One place in the pool: the process that fills it now, and how often it had to be filled again."""

    name: str
    settings: Mapping[str, str]
    """What it is told otherwise than the others of the pool."""
    child: Child
    began: float
    starts: int = 1
    """How often it was started, for whatever reason."""
    restarts: int = 0
    """How often it was started again because it had died."""
    pause: timedelta = _FIRST_PAUSE
    due: float | None = None
    """When it is started again (monotonic seconds); none while it runs."""
    log_begins: int = 0
    """Where in its log the words of this process begin."""

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self.child.identity.pid

    @property
    def running(self) -> bool:
        """Does the process run?"""
        return self.child.exit_code is None


class AgentPool:
    """Starts agents, watches over them and ends them."""

    def __init__(self, processes: Processes, home: Home, environment: Mapping[str, str]) -> None:
        self._processes = processes
        self._home = home
        self._environment = dict(environment)
        self._agents: list[Agent] = []
        self._added = 0
        self._lock = threading.Lock()

    @property
    def agents(self) -> tuple[Agent, ...]:
        """The places of the pool, in the order in which they were added."""
        return tuple(self._agents)

    @property
    def restarts(self) -> dict[str, int]:
        """How often each agent had to be started again."""
        return {agent.name: agent.restarts for agent in self.agents}

    def add(self, settings: Mapping[str, str]) -> Agent:
        """Start one more agent, with these settings beside those of all."""
        with self._lock:
            name = f"agent-{self._added}"
            self._added += 1
            agent = Agent(name, settings, self._start(name, settings, 0), time.monotonic())
            self._agents.append(agent)
            return agent

    def remove(self, settings: Mapping[str, str]) -> None:
        """Let the agents with these settings finish for a few seconds, and end them for good."""
        with self._lock:
            gone = [agent for agent in self._agents if agent.settings == settings]
            self._end_all(gone, _GRACE)
            self._agents = [agent for agent in self._agents if agent not in gone]

    def replace(self, environment: Mapping[str, str]) -> None:
        """Let all agents finish what they run and hand back the rest, then start them anew in another environment.

        Raises:
            AgentStartError: a new one ended, or did not come up in time.
        """
        with self._lock:
            self._end_all(self._agents, _DRAIN)
            self._environment = dict(environment)
            for agent in self._agents:
                self._start_again(agent)
        self.wait_until_up()

    def wait_until_up(self) -> None:
        """Return once every agent runs and has said that it is up.

        Raises:
            AgentStartError: one ended, or did not say so in time.
        """
        within = _UP_WITHIN + len(self._agents) * _UP_EACH
        deadline = time.monotonic() + within.total_seconds()
        quiet = self._environment.get("HTCGRID_LOG_LEVEL", "INFO") not in ("DEBUG", "INFO")
        for agent in self.agents:
            log = self._home.log(agent.name)
            while not (quiet or _UP in log.read_bytes()[agent.log_begins :]):
                _check_running(agent, log)
                if time.monotonic() > deadline:
                    raise AgentStartError(f"{agent.name} was not up within {within.seconds} s; see {log}.")
                time.sleep(0.05)
        for agent in self.agents:
            _check_running(agent, self._home.log(agent.name))

    def kill(self, index: int) -> None:
        """Kill an agent and its workers at once, as when a machine is lost; the pool starts it again after a pause."""
        kill_group(next(agent for agent in self._agents if agent.name == f"agent-{index}").pid)

    def stop(self) -> None:
        """Let all agents finish for a few seconds, then end them; the pool is empty afterwards."""
        with self._lock:
            self._end_all(self._agents, _GRACE)
            self._agents.clear()
            self._added = 0

    def restart_ended(self) -> bool:
        """Start again what has died, each agent after a pause that doubles while it keeps dying.

        Returns whether an agent was started.
        """
        started = False
        with self._lock:
            for agent in self._agents:
                now = time.monotonic()
                if agent.due is None and not agent.running:
                    code = self._processes.end(agent.child)
                    if now - agent.began > _HEALTHY_AFTER.total_seconds():
                        agent.pause = _FIRST_PAUSE
                    wait = agent.pause.total_seconds() * random.uniform(0.5, 1.0)
                    agent.due = now + wait
                    agent.pause = min(agent.pause * 2, _LONGEST_PAUSE)
                    _LOG.warning("%s ended with exit code %d; starting it again in %.1f s", agent.name, code, wait)
                elif agent.due is not None and now >= agent.due:
                    agent.restarts += 1
                    self._start_again(agent)
                    started = True
        return started

    def _end_all(self, agents: Sequence[Agent], grace: timedelta) -> None:
        for agent in agents:
            self._processes.ask_to_end(agent.child)
        deadline = time.monotonic() + grace.total_seconds()
        for agent in agents:
            self._processes.end(agent.child, timedelta(seconds=max(0.0, deadline - time.monotonic())))

    def _start_again(self, agent: Agent) -> None:
        log = self._home.log(agent.name)
        agent.due = None
        agent.began = time.monotonic()
        agent.log_begins = log.stat().st_size if log.exists() else 0
        agent.child = self._start(agent.name, agent.settings, agent.starts)
        agent.starts += 1

    def _start(self, name: str, settings: Mapping[str, str], starts: int) -> Child:
        # A new id for every start, as for pods: the grid must never mistake an agent for its predecessor.
        identity = {"HTCGRID_AGENT_ID": f"{name}-{starts}"}
        return self._processes.start(
            name,
            [sys.executable, "-m", "htcgrid_agent"],
            environment={**self._environment, **settings, **identity},
            log=self._home.log(name),
            folder=self._home.scratch,
        )


def _check_running(agent: Agent, log: Path) -> None:
    if not agent.running:
        said = last_line(log).removeprefix("htcgrid-agent: ") or "it said nothing"
        raise AgentStartError(f"{agent.name} ended with exit code {agent.child.exit_code}: {said} (see {log})")


def agent_environment(
    outputs: Mapping[str, str], endpoint_url: str, home: Home, *, handler: str, runtime: str, workers: int
) -> dict[str, str]:
    """What an agent is told, but for the folder of the function: where the grid is, and no key of its own.

    Raises:
        KeyError: the stack lacks an output that agents need.
    """
    credentials = str(home.agent_credentials)
    return (
        inherited_environment()
        | queue_settings(outputs)
        | {
            "AWS_CONFIG_FILE": credentials,
            "AWS_SHARED_CREDENTIALS_FILE": credentials,
            "AWS_PROFILE": _PROFILE,
            "AWS_ENDPOINT_URL": endpoint_url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONUNBUFFERED": "1",
            "HTCGRID_CHUNKS_TABLE": outputs["ChunksTable"],
            "HTCGRID_TASK_EVENTS_QUEUE_URL": outputs["TaskEventsQueueUrl"],
            "HTCGRID_DATA_BUCKET": outputs["DataBucket"],
            "HTCGRID_DATA_DIR": str(home.shared_data),
            "HTCGRID_PARTITIONS_TABLE": outputs["PartitionsTable"],
            "HTCGRID_WORKERS": str(workers),
            "HTCGRID_HANDLER": handler,
            "HTCGRID_RUNTIME": runtime,
            # Keys, profiles with passwords, logs, and what users submitted. The scratch folder is named because agents
            # run in it: otherwise it would be shown as a folder of Python modules.
            "HTCGRID_HIDDEN_PATHS": json.dumps([str(home.root), str(home.scratch)]),
        }
    )


def make_agent_key(iam: Any, role_arn: str) -> Key:
    """Create a user who may assume the agents' role and nothing else, and return his key."""
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role_arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.create_user(UserName=_USER)
    iam.put_user_policy(UserName=_USER, PolicyName="assume-role", PolicyDocument=policy)
    key = iam.create_access_key(UserName=_USER)["AccessKey"]
    return Key(key["AccessKeyId"], key["SecretAccessKey"])


def write_credentials(path: Path, role_arn: str, key: Key) -> None:
    """Write the AWS configuration that makes an agent assume its role; the SDK renews the session by itself."""
    write_private(
        path,
        f"[{_USER}]\n"
        f"{key.lines()}"
        f"\n"
        f"[profile {_PROFILE}]\n"
        f"role_arn = {role_arn}\n"
        f"role_session_name = {_PROFILE}\n"
        f"source_profile = {_USER}\n"
        f"region = {REGION}\n",
    )
