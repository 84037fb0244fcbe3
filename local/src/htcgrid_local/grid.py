"""A whole HTC-Grid on one machine: the embedded AWS, the real template deployed on it, and agents as processes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import SecretStr

from htcgrid.profile import Profile
from htcgrid_local.agents import Agent, AgentPool, agent_environment, make_agent_key, write_credentials
from htcgrid_local.building import build
from htcgrid_local.client_files import check_client_files, remove_client_files, write_client_files
from htcgrid_local.deploying import deploy
from htcgrid_local.emulator import Emulator
from htcgrid_local.errors import DeployError, EmulatorError, GridRunningError, NoGridError, OptionError
from htcgrid_local.function_logs import save_function_logs
from htcgrid_local.function_snapshot import take_snapshot
from htcgrid_local.handler import check_handler
from htcgrid_local.handler_trial import HandlerTrial
from htcgrid_local.home import Home
from htcgrid_local.keys import REGION, Key
from htcgrid_local.options import check_size
from htcgrid_local.partitions import add_partition, remove_partition
from htcgrid_local.payload_store import S3, check_store, start_store
from htcgrid_local.processes import Processes, kill_leftovers
from htcgrid_local.progress import Silent, StartupProgress
from htcgrid_local.project import Project, find_project
from htcgrid_local.running_function import RunningFunction, environment_with
from htcgrid_local.state import Phase, Report, read_state
from htcgrid_local.users import add_user
from htcgrid_local.watching import Watch

_LOG = logging.getLogger(__name__)
_FIRST_USER: Final = "local"


@dataclass(frozen=True)
class _Up:
    """What a running grid consists of."""

    processes: Processes
    report: Report
    emulator: Emulator
    outputs: dict[str, str]
    pool: AgentPool
    function: RunningFunction
    profile: Profile
    watch: Watch
    partitions: dict[str, dict[str, str]] = field(default_factory=dict)
    """Those that were added, with the settings of their agents."""


class LocalGrid:
    """One grid in one home directory, from `start` to `stop`; also a context manager.

    `agents` processes each keep `workers` workers busy with `handler` of the directory `function`, run by
    `runtime`, as it was at the start or at the last `reload`. Large payloads lie in `store`. `bridge` is an address of
    this machine on which the embedded AWS listens besides the loopback, so that agents in containers reach it.
    `environment` is added to the agents' (short leases in a test, for example). After `stop` nothing is left but the
    logs. Raises OptionError for a grid that is too large for one machine.
    """

    def __init__(
        self,
        home: Path,
        *,
        function: Path,
        handler: str = "handler.handler",
        runtime: str = "auto",
        agents: int = 1,
        workers: int = 2,
        port: int | None = None,
        bridge: str | None = None,
        store: str = S3,
        environment: Mapping[str, str] | None = None,
        project: Project | None = None,
        progress: StartupProgress | None = None,
    ) -> None:
        check_size(agents, workers)
        self._home = Home(home)
        self._function = function.resolve()
        self._handler = handler
        self._runtime = runtime
        self._first_agents = agents
        self._workers = workers
        self._port = port
        self._bridge = bridge
        self._store = store
        self._environment = dict(environment or {})
        self._project = project or find_project()
        self._progress = progress or Silent()
        self._running: _Up | None = None

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
        """Bring the grid up; on any failure everything that was started has ended before the error leaves.

        Raises:
            NotInstalledError: the checkout or a tool is missing.
            OptionError: there is no such store.
            HandlerError: the function to run does not exist, or a worker cannot load its handler.
            HomeError: the home directory cannot be made or used, or holds a profile of the grid's name that is not its.
            GridRunningError: a grid already runs in this home.
            PortInUseError: the named port is taken.
            EmulatorError: the embedded AWS did not start.
            DeployError: the template could not be built or deployed.
            AgentStartError: an agent ended, or did not come up.
        """
        if self._running is not None:
            raise GridRunningError("This grid is already running: call stop() before another start().")
        check_handler(self._function, self._handler, self._runtime)
        check_store(self._store)
        self._project.check()
        check_client_files(self._home)
        self._home.acquire()
        try:
            self._running = self._bring_up()
        except BaseException:
            self._home.release()
            raise

    def stop(self) -> None:
        """End every process of the grid; stopping a grid that does not run is fine."""
        up, self._running = self._running, None
        if up is None:
            return
        try:
            up.report.note(phase=Phase.STOPPING)
            up.watch.stop()
            up.pool.stop()
            self._save_function_logs(up.emulator)
        finally:
            up.processes.close()
            self._home.clear_scratch()
            remove_client_files(self._home)
            if up.watch.failure is None:
                self._home.state.unlink(missing_ok=True)
            else:
                up.report.note(phase=Phase.FAILED, error=str(up.watch.failure))
            self._home.release()

    def wait(self) -> EmulatorError | None:
        """Block until the grid has failed or is stopped, and return why it failed."""
        return self._up.watch.wait()

    @property
    def endpoint_url(self) -> str:
        """Where the embedded AWS answers."""
        return self._up.emulator.endpoint_url

    @property
    def bridge_url(self) -> str | None:
        """Where the embedded AWS answers containers, if it listens on a bridge."""
        return self._up.emulator.bridge_url

    @property
    def root_key(self) -> Key:
        """The root key of the embedded AWS, for tests."""
        return self._up.emulator.key

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs of the deployed stack."""
        return dict(self._up.outputs)

    @property
    def profile(self) -> Profile:
        """The connection profile of the first user; in the home directory it has the name `local`."""
        return self._up.profile

    @property
    def first_grid_configuration(self) -> Path:
        """The configuration file for programs of the first HTC-Grid, with the first user."""
        return self._home.first_grid_configuration

    @property
    def agents(self) -> tuple[Agent, ...]:
        """The agents, in the order in which they were started."""
        return self._up.pool.agents

    def client(self, service: str) -> Any:
        """A boto3 client of `service` on the embedded AWS with the root key, for tests."""
        return self._up.emulator.client(service)

    def counted(self, what: str) -> dict[str, int]:
        """How often each of the `requests` to AWS came, or what would be charged for (`charges`), so far."""
        return self._up.emulator.counted(what)

    def warm_functions(self) -> dict[str, str]:
        """Start the processes of all functions, and return the errors of those that do not start, by function."""
        return self._up.emulator.warm_functions()

    def add_user(self, name: str) -> Profile:
        """Create one more user, and return the profile to connect with."""
        return _profile_of(self._up.emulator, self._up.outputs, name)

    def add_partition(self, name: str) -> None:
        """Add a partition. Agents of its own serve it: `start_agent(name)`.

        Raises:
            DeployError: its stack could not be created.
        """
        up = self._up
        up.partitions[name] = add_partition(up.emulator.client("cloudformation"), self._project, up.outputs, name)

    def remove_partition(self, name: str) -> None:
        """Remove a partition, and its agents.

        Raises:
            OptionError: it was not added.
            DeployError: its stack could not be deleted, such as while sessions are open in it; its agents go on.
        """
        up, settings = self._up, self._settings_of(name)
        remove_partition(up.emulator.client("cloudformation"), name)
        up.pool.remove(settings)
        del up.partitions[name]

    def start_agent(self, partition: str = "default") -> Agent:
        """Start one more agent, of `default` or of a partition that was added.

        Raises:
            OptionError: there is no such partition.
        """
        return self._up.pool.add({} if partition == "default" else self._settings_of(partition))

    def _settings_of(self, partition: str) -> Mapping[str, str]:
        """The settings of the agents of a partition that was added."""
        if partition not in self._up.partitions:
            added = ", ".join(sorted(self._up.partitions)) or "none"
            raise OptionError(f"No partition '{partition}' was added to this grid; there is: {added}.")
        return self._up.partitions[partition]

    def kill_agent(self, index: int) -> None:
        """Kill an agent and its workers at once; it is started again after a pause."""
        self._up.pool.kill(index)

    def reload(self) -> str:
        """Have all agents run the function as it is now, and return its digest. Tasks that run are finished first.

        Raises:
            HandlerError: the function cannot be copied, or a worker cannot load its handler: agents run on as before.
            AgentStartError: an agent did not come up again.
        """
        return self._up.function.reload()

    def stop_agents(self) -> None:
        """Let all agents finish, and end them; the grid runs on without any."""
        self._up.pool.stop()

    @property
    def _up(self) -> _Up:
        if self._running is None:
            raise NoGridError("This grid is not running: call start() first.")
        return self._running

    def _bring_up(self) -> _Up:
        before = read_state(self._home.state)
        self._home.clear()
        report = Report(self._home.state)
        if before is not None and (left := kill_leftovers(before.children)):
            _LOG.warning("ended what an earlier grid left behind: %s", ", ".join(left))
        processes = Processes(report.children)
        try:
            return self._deploy_and_start(processes, report)
        except BaseException as error:
            processes.close()
            self._home.clear_scratch()
            remove_client_files(self._home)
            if isinstance(error, Exception):
                report.note(phase=Phase.FAILED, error=str(error) or type(error).__name__)
            else:  # Interrupted: nothing has failed, and nothing is left.
                self._home.state.unlink(missing_ok=True)
            raise

    def _deploy_and_start(self, processes: Processes, report: Report) -> _Up:
        def step(text: str) -> None:
            self._progress.begin(text)
            report.note(step=text)

        # MiniStack starts while sam builds.
        emulator = Emulator(self._project, self._home, processes, self._port, self._bridge)
        report.note(endpoint_url=emulator.endpoint_url)
        step("build the functions (sam build)")
        template = build(self._project, self._home, processes)
        step("start the embedded AWS")
        emulator.wait_until_ready()
        try:
            store = start_store(self._store, processes, self._home)
            step("deploy the template (sam deploy)")
            outputs = deploy(
                self._project,
                self._home,
                processes,
                emulator,
                template,
                self._progress.detail,
                store.template_parameters(),
            )
            step(f"start {self._first_agents} agent(s) with {self._workers} worker(s) each")
            snapshot = take_snapshot(self._function, self._home)
            report.note(function=str(self._function), function_digest=snapshot.digest)
            environment = self._agent_environment(emulator, outputs) | store.agent_environment()
            pool = AgentPool(processes, self._home, environment_with(environment, snapshot))
            trial = self._start_agents(processes, pool, environment_with(environment, snapshot))
            profile = _profile_of(emulator, outputs, _FIRST_USER)
            step("start the functions")
            for function, reason in emulator.warm_functions().items():
                raise DeployError(f"The function {function} does not start: {reason}")
            pool.wait_until_up()
            if trial is not None:
                trial.wait()
        except KeyError as error:
            raise DeployError(f"The deployed template has no output {error}, which a grid needs.") from error
        except (BotoCoreError, ClientError) as error:
            # A client's complaint about an endpoint that has gone is the consequence, not the cause.
            raise emulator.failure() if emulator.ended else DeployError(f"The embedded AWS refused: {error}") from error
        write_client_files(self._home, profile, outputs)
        running = RunningFunction(self._function, self._home, processes, pool, environment, report)
        watch = Watch(emulator, pool, report, running.carry_out_request)
        report.note(phase=Phase.READY, step="")
        self._progress.end()
        return _Up(processes, report, emulator, outputs, pool, running, profile, watch)

    def _save_function_logs(self, emulator: Emulator) -> None:
        if emulator.ended:
            return
        try:
            save_function_logs(self._home, emulator.endpoint_url)
        except (BotoCoreError, ClientError) as error:
            _LOG.warning("the functions' logs could not be saved: %s", error)

    def _start_agents(
        self, processes: Processes, pool: AgentPool, environment: Mapping[str, str]
    ) -> HandlerTrial | None:
        """Start the agents, and beside them a trial of the handler that they are to load."""
        for _ in range(self._first_agents):
            pool.add({})
        return HandlerTrial(processes, self._home, environment) if self._first_agents else None

    def _agent_environment(self, emulator: Emulator, outputs: Mapping[str, str]) -> dict[str, str]:
        role = outputs["AgentRoleArn"]
        write_credentials(self._home.agent_credentials, role, make_agent_key(emulator.client("iam"), role))
        environment = agent_environment(
            outputs,
            emulator.endpoint_url,
            self._home,
            handler=self._handler,
            runtime=self._runtime,
            workers=self._workers,
        )
        return environment | self._environment


def _profile_of(emulator: Emulator, outputs: Mapping[str, str], user: str) -> Profile:
    """Create a user, and return the profile to connect with."""
    password = add_user(emulator.client("cognito-idp"), outputs["UserPoolId"], user)
    return Profile(
        api_url=outputs["ApiUrl"],
        push_url=outputs["PushUrl"],
        region=REGION,
        user_pool_client_id=outputs["UserPoolClientId"],
        aws_endpoint_url=emulator.endpoint_url,
        username=user,
        password=SecretStr(password),
    )
