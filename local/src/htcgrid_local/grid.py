"""A whole HTC-Grid on one machine: the embedded AWS, the real template deployed on it, and agents as processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pydantic import SecretStr

from htcgrid.profile import Profile
from htcgrid_local.agents import Agent, AgentPool, agent_environment, write_credentials
from htcgrid_local.building import build
from htcgrid_local.deploying import deploy
from htcgrid_local.emulator import REGION, Emulator
from htcgrid_local.errors import DeployError, LocalGridError, NoGridError
from htcgrid_local.handler import check_handler
from htcgrid_local.home import Home
from htcgrid_local.processes import Processes, kill_leftovers
from htcgrid_local.progress import Progress, Silent
from htcgrid_local.project import Project, find_project
from htcgrid_local.state import Phase, ProcessId, State, read_state
from htcgrid_local.users import add_user

_FIRST_USER: Final = "local"
_LOOK_EVERY: Final = 0.2


class LocalGrid:
    """One grid in one home directory, from `start` to `stop`; also a context manager.

    `agents` processes each keep `workers` workers busy with `handler` (module.function) from the directory
    `function`. `environment` is added to the agents' (short leases in tests, for example). All of it is gone
    after `stop`, except for the logs.
    """

    def __init__(
        self,
        home: Path,
        *,
        function: Path,
        handler: str = "handler.handler",
        agents: int = 1,
        workers: int = 2,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
        project: Project | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._home = Home(home)
        self._function = function.resolve()
        self._handler = handler
        self._first_agents = agents
        self._workers = workers
        self._port = port
        self._environment = dict(environment or {})
        self._project = project or find_project()
        self._progress = progress or Silent()
        self._processes: Processes | None = None
        self._emulator: Emulator | None = None
        self._pool: AgentPool | None = None
        self._profile: Profile | None = None
        self._outputs: dict[str, str] = {}
        self._state: State | None = None
        self._state_lock = threading.Lock()
        self._stopping = threading.Event()
        self._failed = threading.Event()
        self._failure: LocalGridError | None = None
        self._watch: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start the grid."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the grid."""
        self.stop()

    def start(self) -> None:
        """Bring the grid up; on any failure everything that was started is ended before the error leaves.

        Raises:
            NotInstalledError: the checkout or a tool is missing.
            HandlerError: the function to run does not exist.
            GridRunningError: another process runs a grid in this home.
            PortInUseError: the named port is taken.
            EmulatorError: the embedded AWS did not start.
            DeployError: the template could not be built or deployed.
        """
        check_handler(self._function, self._handler)
        self._project.check()
        self._home.acquire()
        try:
            self._bring_up()
        except BaseException as error:
            self._end_processes()
            self._note(phase=Phase.FAILED, error=str(error) or type(error).__name__, children=())
            self._home.release()
            raise

    def stop(self) -> None:
        """End every process of the grid; stopping a grid that does not run is fine."""
        if self._processes is None:
            return
        self._stopping.set()
        if self._watch is not None:
            self._watch.join()
        self._note(phase=Phase.STOPPING)
        if self._pool is not None:
            self._pool.stop()
        self._end_processes()
        if self._failure is None:
            self._home.state.unlink(missing_ok=True)
        else:
            self._note(phase=Phase.FAILED, error=str(self._failure), children=())
        self._home.release()

    def wait(self) -> LocalGridError:
        """Block until the grid fails by itself, and return why."""
        self._failed.wait()
        if self._failure is None:
            raise NoGridError("This grid is not running.")
        return self._failure

    @property
    def endpoint_url(self) -> str:
        """Where the embedded AWS answers."""
        return self._running_emulator.endpoint_url

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs of the deployed stack."""
        return dict(self._outputs)

    @property
    def profile(self) -> Profile:
        """The connection profile of the first user, which also lies in the home directory."""
        if self._profile is None:
            raise NoGridError("This grid is not running: call start() first.")
        return self._profile

    @property
    def agents(self) -> tuple[Agent, ...]:
        """The agents, in the order in which they were started."""
        return self._running_pool.agents

    def client(self, service: str) -> Any:
        """A boto3 client of `service` on the embedded AWS with the root key, for tests."""
        return self._running_emulator.client(service)

    def add_user(self, name: str) -> Profile:
        """Create one more user and return the profile to connect with."""
        outputs = self._outputs
        password = add_user(self.client("cognito-idp"), outputs["UserPoolId"], name)
        return Profile(
            api_url=outputs["ApiUrl"],
            push_url=outputs["PushUrl"],
            region=REGION,
            user_pool_client_id=outputs["UserPoolClientId"],
            aws_endpoint_url=self.endpoint_url,
            username=name,
            password=SecretStr(password),
        )

    def start_agent(self) -> Agent:
        """Start one more agent."""
        return self._running_pool.add()

    def kill_agent(self, index: int) -> None:
        """Kill an agent and its workers at once; it is started again after a pause."""
        self._running_pool.kill(index)

    def stop_agents(self) -> None:
        """Let all agents finish, and end them."""
        self._running_pool.stop()

    def _bring_up(self) -> None:
        before = read_state(self._home.state)
        self._home.clear()
        self._state = State(phase=Phase.STARTING, supervisor=ProcessId.of("supervisor", os.getpid()))
        if before is not None and (left := kill_leftovers(before.children)):
            self._step(f"ended what an earlier grid left behind ({', '.join(left)})")
        self._processes = processes = Processes(self._children_changed)
        self._step("build the functions (sam build)")
        # MiniStack starts while sam builds; each takes a core for a while.
        self._emulator = emulator = Emulator(self._project, self._home, processes, self._port)
        template = build(self._project, self._home, processes)
        self._step("start the embedded AWS")
        emulator.wait_until_ready()
        self._note(endpoint_url=emulator.endpoint_url)
        self._step("deploy the template (sam deploy)")
        self._outputs = deploy(self._project, self._home, processes, emulator, template, self._progress.detail)
        self._step(f"start {self._first_agents} agent(s) with {self._workers} workers each")
        self._pool = self._agent_pool(emulator)
        for _ in range(self._first_agents):
            self._pool.add()
        self._profile = self.add_user(_FIRST_USER)
        self._profile.save(self._home.profile)
        self._watch = threading.Thread(target=self._look_after, name="htcgrid-local", daemon=True)
        self._watch.start()
        self._note(phase=Phase.READY, step="")
        self._progress.end()

    def _agent_pool(self, emulator: Emulator) -> AgentPool:
        try:
            write_credentials(self._home.agent_credentials, self._outputs["AgentRoleArn"])
            environment = agent_environment(
                self._outputs,
                emulator.endpoint_url,
                self._home.agent_credentials,
                function=self._function,
                handler=self._handler,
                workers=self._workers,
            )
        except KeyError as error:
            raise DeployError(f"The deployed template has no output {error}, which the agents need.") from error
        return AgentPool(self._running_processes, self._home, environment | self._environment)

    def _look_after(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY):
            if self._running_emulator.child.exit_code is not None:
                self._failure = self._running_emulator.failure()
                self._failed.set()
                return
            before = self._running_pool.restarts
            self._running_pool.mend()
            if self._running_pool.restarts != before:
                self._note(restarts=self._running_pool.restarts)

    def _end_processes(self) -> None:
        if self._processes is not None:
            self._processes.close()
            self._processes = None
        self._home.clear_scratch()

    def _step(self, text: str) -> None:
        self._progress.begin(text)
        self._note(step=text)

    def _children_changed(self, children: Sequence[ProcessId]) -> None:
        self._note(children=tuple(children))

    def _note(self, **changes: object) -> None:
        with self._state_lock:
            if self._state is not None:
                self._state = self._state.model_copy(update=changes)
                self._state.write(self._home.state)

    @property
    def _running_processes(self) -> Processes:
        if self._processes is None:
            raise NoGridError("This grid is not running: call start() first.")
        return self._processes

    @property
    def _running_emulator(self) -> Emulator:
        if self._emulator is None:
            raise NoGridError("This grid is not running: call start() first.")
        return self._emulator

    @property
    def _running_pool(self) -> AgentPool:
        if self._pool is None:
            raise NoGridError("This grid is not running: call start() first.")
        return self._pool
