"""A whole grid of the small application: real sam, real MiniStack, real processes."""

from __future__ import annotations

import configparser
import json
import os
import re
import stat
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from botocore.exceptions import ClientError
from local.tests.recording_proxy import RecordingProxy
from tests.support.modes import open_to_others

from api.configuration import read_configuration
from htcgrid.profile import Profile
from htcgrid_local import (
    DeployError,
    EmulatorError,
    GridRunningError,
    HandlerError,
    HomeError,
    LocalGrid,
    NoGridError,
    OptionError,
    PortInUseError,
    Project,
)
from htcgrid_local.deploying import STACK
from htcgrid_local.emulator import client, listen
from htcgrid_local.home import Home
from htcgrid_local.keys import Key
from htcgrid_local.lost_parts import lost_parts
from htcgrid_local.state import Phase, State, read_state

pytestmark = pytest.mark.grid


def _home(grid: LocalGrid) -> Home:
    return grid._home


def _until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_the_state_says_that_it_is_ready_and_of_what_it_consists(grid: LocalGrid) -> None:
    state = read_state(_home(grid).state)

    assert state is not None
    assert state.phase is Phase.READY
    assert state.supervisor.pid == os.getpid()
    assert state.endpoint_url == grid.endpoint_url
    assert {child.name for child in state.children} >= {"emulator", "agent-1"}


def test_no_request_on_the_loopback_takes_the_proxy(grid: LocalGrid, proxy: RecordingProxy) -> None:
    with httpx.Client() as bystander:
        assert bystander.get("http://example.com/").status_code == httpx.codes.BAD_GATEWAY
    grid.client("sts").get_caller_identity()

    assert any("example.com" in line for line in proxy.asked)
    assert [line for line in proxy.asked if "127.0.0.1" in line or "localhost" in line] == []


def test_everything_in_the_home_is_its_owners_alone(grid: LocalGrid) -> None:
    assert (_home(grid).root / "local/sam").is_dir()
    assert open_to_others(_home(grid).root) == {}


def test_the_profile_of_its_name_lies_in_the_home_for_its_owner_alone(grid: LocalGrid) -> None:
    file = _home(grid).root / "profiles/local.json"

    assert Profile.load(file) == grid.profile.model_copy(update={"written_by": "htcgrid local up"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert grid.profile.api_url == f"{grid.endpoint_url}/_aws/execute-api/api"


def test_the_configuration_for_the_first_grids_programs_says_the_same(grid: LocalGrid) -> None:
    file = _home(grid).first_grid_configuration

    with warnings.catch_warnings(action="error"):
        found = read_configuration(json.loads(file.read_text()), {})
    assert grid.profile.password is not None
    assert (found.username, found.password) == ("local", grid.profile.password.get_secret_value())
    assert found.profile == grid.profile.model_copy(update={"username": None, "password": None})
    assert found.pushed
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_its_users_can_sign_in(grid: LocalGrid) -> None:
    second = grid.add_user("second")

    for profile in (grid.profile, second):
        assert profile.username is not None
        assert profile.password is not None
        signed_in = grid.client("cognito-idp").initiate_auth(
            AuthFlow="USER_PASSWORD_AUTH",
            ClientId=profile.user_pool_client_id,
            AuthParameters={"USERNAME": profile.username, "PASSWORD": profile.password.get_secret_value()},
        )
        assert signed_in["AuthenticationResult"]["AccessToken"]


def test_agents_run_under_the_agent_role_and_hold_no_key(grid: LocalGrid) -> None:
    log = _home(grid).log("agent-1")
    role = grid.outputs["AgentRoleArn"].rsplit("/", 1)[-1]

    assert _until(lambda: f":assumed-role/{role}/" in log.read_text())
    environment = psutil.Process(grid.agents[1].pid).environ()
    assert not [name for name in environment if "KEY" in name or "SECRET" in name]


def test_a_killed_agent_comes_back_under_a_new_id(grid: LocalGrid) -> None:
    before = grid.agents[0].pid
    log = _home(grid).log("agent-0")
    assert _until(lambda: bool(re.search(r"^agent-0-0 ", log.read_text(), re.MULTILINE)))
    workers = psutil.Process(before).children()
    assert workers

    grid.kill_agent(0)

    assert _until(lambda: grid.agents[0].restarts == 1 and grid.agents[0].running)
    assert not psutil.pid_exists(before)
    assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]
    assert _until(lambda: bool(re.search(r"^agent-0-1 ", log.read_text(), re.MULTILINE)))
    assert _until(lambda: (state := read_state(_home(grid).state)) is not None and state.restarts["agent-0"] == 1)


def test_a_second_grid_in_the_same_home_is_refused(grid: LocalGrid, function: Path, project: Project) -> None:
    with pytest.raises(GridRunningError, match=rf"process {os.getpid()}"):
        LocalGrid(_home(grid).root, function=function, project=project).start()

    assert grid.client("sts").get_caller_identity()


def test_agents_can_be_added_and_all_be_stopped(grid: LocalGrid) -> None:
    added = grid.start_agent()
    pids = [agent.pid for agent in grid.agents]
    assert added.pid in pids

    grid.stop_agents()

    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert grid.agents == ()


def test_the_end_of_the_embedded_aws_is_the_end_of_the_grid(project: Project, function: Path, tmp_path: Path) -> None:
    with LocalGrid(tmp_path, function=function, agents=0, project=project) as grid:
        (emulator,) = (child for child in _state(tmp_path).children if child.name == "emulator")
        psutil.Process(emulator.pid).kill()

        failure = grid.wait()

    assert isinstance(failure, EmulatorError)
    assert _state(tmp_path).phase is Phase.FAILED
    with pytest.raises(NoGridError, match="call start"):
        _ = grid.endpoint_url


@pytest.mark.parametrize(
    ("resource", "complaint"),
    [
        ("{Type: AWS::Logs::LogStream, Properties: {LogGroupName: absent}}", r"Broken \(AWS::Logs::LogStream\): \S+"),
        (
            "{Type: AWS::Serverless::Function, Properties: "
            "{FunctionName: dead, InlineCode: import nowhere, Handler: index.handler, Runtime: python3.13}}",
            "The function dead does not start: .*No module named 'nowhere'",
        ),
    ],
)
def test_what_is_broken_in_the_template_is_named_with_the_reason(
    project: Project, function: Path, tmp_path: Path, resource: str, complaint: str
) -> None:
    broken = tmp_path / "project"
    broken.mkdir()
    for shared in ("samconfig.toml", ".tools", "requirements"):
        (broken / shared).symlink_to(project.root / shared)
    template = project.template.read_text().replace("Outputs:", f"  Broken: {resource}\nOutputs:")
    (broken / "template.yaml").write_text(template)

    with pytest.raises(DeployError, match=complaint):
        LocalGrid(tmp_path / "home", function=function, project=Project(broken)).start()

    state = _state(tmp_path / "home")
    assert state.phase is Phase.FAILED
    assert state.children == ()
    assert re.search(complaint, state.error or "")


@pytest.mark.parametrize(
    "content",
    ['{"api_url": "https://a.example.com", "password": "x"}', "no JSON", '{"written_by": "htcgrid deploy"}', ""],
)
def test_a_profile_of_somebody_else_is_left_alone_and_nothing_starts(
    project: Project, function: Path, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "profiles/local.json"
    file.parent.mkdir()
    file.write_text(content)

    with pytest.raises(HomeError, match=rf"The profile {file} is not one of a local grid .* rename it"):
        LocalGrid(tmp_path, function=function, project=project).start()

    assert file.read_text() == content
    assert [child.name for child in tmp_path.iterdir()] == ["profiles"]


def test_nothing_starts_for_a_handler_that_is_not_there(project: Project, function: Path, tmp_path: Path) -> None:
    with pytest.raises(HandlerError):
        LocalGrid(tmp_path, function=function, handler="handler.absent", project=project).start()

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("agents", "workers"), [(-1, 1), (65, 1), (1, 0), (1, 257)])
def test_a_grid_too_large_for_one_machine_is_refused(
    project: Project, function: Path, tmp_path: Path, agents: int, workers: int
) -> None:
    with pytest.raises(OptionError, match=r"(64|256)"):
        LocalGrid(tmp_path, function=function, agents=agents, workers=workers, project=project)


def test_a_taken_port_leaves_no_process_and_no_lock(project: Project, function: Path, tmp_path: Path) -> None:
    with listen(None) as taken, pytest.raises(PortInUseError):
        LocalGrid(tmp_path, function=function, port=taken.getsockname()[1], project=project).start()

    assert _state(tmp_path).children == ()
    home = Home(tmp_path)
    home.acquire()
    home.release()


def _state(home: Path) -> State:
    state = read_state(Home(home).state)
    assert state is not None
    return state


def test_what_was_deleted_behind_the_grids_back_is_noticed(grid: LocalGrid) -> None:
    dynamodb, table = grid.client("dynamodb"), grid.outputs["ChunksTable"]
    assert lost_parts(STACK, grid.client) == []

    described = dynamodb.describe_table(TableName=table)["Table"]
    dynamodb.delete_table(TableName=table)
    assert lost_parts(STACK, grid.client) == ["the table Table"]
    assert lost_parts("another-stack", grid.client) == ["the stack another-stack"]
    again = {name: described[name] for name in ("TableName", "AttributeDefinitions", "KeySchema")}
    dynamodb.create_table(BillingMode="PAY_PER_REQUEST", **again)


def test_the_agents_key_opens_nothing_but_their_role(grid: LocalGrid) -> None:
    """It lies in a file beside the user's function."""
    config = configparser.ConfigParser()
    config.read(_home(grid).agent_credentials)
    section = config["htcgrid-agents"]
    key = Key(section["aws_access_key_id"], section["aws_secret_access_key"])
    assert key != grid.root_key
    with pytest.raises(ClientError, match="AccessDenied"):
        client("dynamodb", grid.endpoint_url, key).list_tables()
    with pytest.raises(ClientError, match="AccessDenied"):
        client("iam", grid.endpoint_url, key).list_users()
