"""`htcgrid config` and `htcgrid doctor`."""

import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from connector.tests.cli_runs import Shell
from connector.tests.stub_grid import PASSWORD, USER, Answer, Failing, StubGrid
from tests.support.modes import open_to_others

from htcgrid import Grid, GridUnreachable, Profile
from htcgrid.cli.findings import advice_on
from htcgrid.cli.output import print_table
from htcgrid_events import FailureKind, GridInfo

FIELDS = {
    "--api-url": "https://api.example.com",
    "--push-url": "wss://push.example.com/v1",
    "--region": "eu-west-1",
    "--user-pool-client-id": "client",
}


def set_up(shell: Shell, *more: str, stdin: str | None = None) -> None:
    fields = [part for pair in FIELDS.items() for part in pair]
    shell.succeed("config", "set", *fields, *more, "--profile", str(shell.home / "made.json"), stdin=stdin)


def test_a_profile_is_written_for_its_owner_alone(shell: Shell) -> None:
    set_up(shell, "--username", "ada", "--password-stdin", stdin="right-Horse-7\n")
    made = shell.home / "made.json"
    assert made.stat().st_mode & 0o777 == 0o600
    profile = Profile.load(made)
    assert (profile.api_url, profile.username) == ("https://api.example.com", "ada")
    assert profile.password is not None
    assert profile.password.get_secret_value() == "right-Horse-7"


def test_what_lies_in_a_new_home_is_its_owners_alone(tmp_path: Path) -> None:
    new = Shell(None, tmp_path / "around/home")
    fields = [part for pair in FIELDS.items() for part in pair]
    new.succeed("config", "set", *fields, "--profile", "made")
    new.succeed("config", "use", "made")
    assert (new.home / "current_profile").read_text() == "made\n"
    assert open_to_others(new.home.parent) == {}


def test_a_profile_is_changed_where_something_is_given(shell: Shell) -> None:
    set_up(shell, "--username", "ada", "--ask-password", stdin="right-Horse-7\n")
    made = str(shell.home / "made.json")
    shell.succeed("config", "set", "--region", "eu-west-2", "--profile", made)
    profile = Profile.load(made)
    assert (profile.region, profile.username) == ("eu-west-2", "ada")
    assert profile.password is not None
    assert profile.password.get_secret_value() == "right-Horse-7"


def test_a_profile_is_shown_without_its_secrets(shell: Shell) -> None:
    for arguments in (["config", "show"], ["config", "show", "--json"]):
        shown = shell.succeed(*arguments).out
        assert PASSWORD not in shown
        assert "(set)" in shown
        assert USER in shown
    assert json.loads(shell.succeed("config", "show", "--json").out)["file"] == str(shell.profile)


def test_a_profile_that_would_be_wrong_is_not_written(shell: Shell) -> None:
    made = shell.home / "made.json"
    done = shell.run("config", "set", "--api-url", "nowhere", "--profile", str(made))
    assert done.code == 2
    assert "'api_url' is not legal: it is the address of the sessions API" in done.err
    assert not made.exists()


def named(shell: Shell, name: str, region: str) -> None:
    fields = [part for pair in (FIELDS | {"--region": region}).items() for part in pair]
    shell.succeed("config", "set", *fields, "--profile", name)


def test_several_profiles_are_kept_by_name_and_one_is_used(shell: Shell) -> None:
    shell = shell.without_profile()
    named(shell, "prod", "eu-west-1")
    named(shell, "test", "eu-west-2")
    assert "there are profiles named prod, test" in shell.run("config", "show").err
    assert "profile test is in use" in shell.succeed("config", "use", "test").err
    assert json.loads(shell.succeed("config", "show", "--json").out)["region"] == "eu-west-2"
    assert json.loads(shell.succeed("config", "show", "--json", "--profile", "prod").out)["region"] == "eu-west-1"
    listed = shell.succeed("config", "list", "--json").values()
    assert [(value["profile"], value["in_use"]) for value in listed] == [("prod", False), ("test", True)]
    assert [line.split()[:2] for line in shell.succeed("config", "list").out.splitlines()[1:]][1] == ["test", "*"]
    done = shell.run("config", "use", "nowhere")
    assert (done.code, done.err) == (2, "htcgrid: there is no profile 'nowhere'; there are prod, test\n")


def test_a_set_profile_changes_the_one_in_use(shell: Shell) -> None:
    shell = shell.without_profile()
    named(shell, "prod", "eu-west-1")
    named(shell, "test", "eu-west-2")
    shell.succeed("config", "use", "prod")
    shell.succeed("config", "set", "--username", "ada")
    assert Profile.load(shell.home / "profiles" / "prod.json").username == "ada"


def test_no_profile_is_told(shell: Shell) -> None:
    assert "There is no profile: write one with `htcgrid config set`" in (
        shell.without_profile().succeed("config", "list").err
    )


def test_what_the_local_grid_wrote_is_not_changed(stub: StubGrid, shell: Shell) -> None:
    shell = shell.without_profile()
    place = shell.home / "profiles" / "local.json"
    written = stub.profile(written_by="htcgrid local up", region="local-1")
    written.save(place)
    assert json.loads(shell.succeed("config", "show", "--json").out)["region"] == "local-1"
    done = shell.run("config", "set", "--region", "eu-west-9", "--profile", "local")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "belongs to `htcgrid local up`, which overwrites it" in done.err
    assert Profile.load(place) == written
    fields = [part for pair in FIELDS.items() for part in pair]
    shell.succeed("config", "set", *fields)
    assert Profile.load(place) == written
    assert Profile.load(shell.home / "profile.json").region == "eu-west-1"


@pytest.mark.parametrize("content", ["notes of mine\n", "[1]"])
def test_what_is_no_profile_is_not_overwritten(shell: Shell, tmp_path: Path, content: str) -> None:
    place = tmp_path / "notes.txt"
    place.write_text(content, encoding="utf-8")
    fields = [part for pair in FIELDS.items() for part in pair]
    assert shell.run("config", "set", *fields, "--profile", str(place)).code == 1
    assert place.read_text(encoding="utf-8") == content


def checks(shell: Shell, profile: Profile | None = None) -> dict[str, dict[str, object]]:
    """What the doctor found, by the name of the check. Its exit code must say the same."""
    path = shell.profile if profile is None else profile.save(shell.home / "other.json")
    done = shell.run("doctor", "--json", "--profile", str(path))
    found = {value["check"]: value for value in done.values()}
    assert done.code == (0 if all(value["good"] for value in found.values()) else 1)
    for value in found.values():
        assert bool(value["what_to_do"]) is not value["good"]
        assert PASSWORD not in str(value)
    return found


ALL = ["profile", "TLS", "sign-in", "sessions API", "versions", "clock", "permissions", "payloads"]
ALL += ["push connection", "probe task", "isolation"]  # of the agent, which is installed beside the connector here


@pytest.fixture
def working(stub: StubGrid) -> StubGrid:
    """A grid that runs tasks at once."""
    stub.handler = lambda event: event
    return stub


def test_a_grid_in_good_health(working: StubGrid, shell: Shell) -> None:
    found = checks(shell)
    assert list(found) == ALL
    assert all(value["good"] for value in found.values())
    assert "orkers run as" in str(found["isolation"]["found"]) or "worker runs as" in str(found["isolation"]["found"])
    assert shell.succeed("doctor").out.count("ok   ") == len(ALL)


def test_a_missing_profile(shell: Shell) -> None:
    done = shell.run("doctor", "--profile", "none.json")
    assert done.code == 1
    assert done.out.startswith("FAULT  profile: there is no grid profile at none.json")
    assert "htcgrid config set" in done.out


def test_a_wrong_password(stub: StubGrid, shell: Shell) -> None:
    found = checks(shell, stub.profile(password="wrong"))
    assert list(found) == ["profile", "TLS", "sign-in", "isolation"]
    assert "--ask-password" in str(found["sign-in"]["what_to_do"])


@pytest.mark.parametrize(("kind", "good"), [("handler", True), ("timeout", True), ("init", False), ("crash", False)])
def test_a_probe_task_that_fails(stub: StubGrid, shell: Shell, kind: str, good: bool) -> None:
    def refuse(event: object) -> object:
        assert isinstance(event, dict)
        assert event["htcgrid_probe"] is True
        raise Failing("no such module")

    stub.handler, stub.failure_kind = refuse, FailureKind(kind)
    found = checks(shell)["probe task"]
    assert found["good"] is good
    assert "ValueError: no such module" in str(found["found"])
    (session,) = stub.sessions.values()
    assert session.options.max_retries == 0
    if kind == "init":
        assert str(found["found"]).startswith("the handler cannot be loaded: ")
        assert f"htcgrid errors {session.session_id} --all" in str(found["what_to_do"])


def test_a_probe_task_that_nobody_runs(stub: StubGrid, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("htcgrid.cli.probe.PROBE_WITHIN", timedelta(seconds=0.2))
    found = checks(shell)["probe task"]
    assert found["found"] == "no agent has run it within 0 s"
    (session,) = stub.sessions.values()
    assert session.cancelled


def test_no_task_runs_where_none_is_wanted(stub: StubGrid, shell: Shell) -> None:
    assert "probe task" not in shell.succeed("doctor", "--no-probe").out
    assert not stub.sessions


def test_a_user_who_may_not(working: StubGrid, shell: Shell) -> None:
    stub = working
    stub.fail("GET /api/sessions", Answer(403, b'{"message":"Forbidden"}'))
    found = checks(shell)["permissions"]
    assert not found["good"]
    assert "Forbidden" in str(found["found"])


def test_another_version_and_another_time(working: StubGrid, shell: Shell) -> None:
    info = GridInfo(
        version="7.0.1",
        region="eu-west-1",
        partitions=("default",),
        notification_topic="",
        tenant="ada",
        now=int(time.time() * 1000) - 300_000,
    )
    working.fail("GET /api/grid", Answer(200, info.model_dump_json().encode()))
    found = checks(shell)
    assert not found["versions"]["good"]
    assert "htcgrid==7.0.1" in str(found["versions"]["what_to_do"])
    assert str(found["clock"]["found"]).startswith("300 s away")


def test_no_push_connection(shell: Shell) -> None:
    with StubGrid(lambda event: event, push=False) as deaf:
        found = checks(shell, deaf.profile())
    assert [name for name, value in found.items() if not value["good"]] == ["push connection"]


def test_an_unencrypted_grid_elsewhere(stub: StubGrid, shell: Shell) -> None:
    profile = stub.profile(push_url="ws://push.example.com/v1", aws_endpoint_url="http://pool.example.com")
    found = checks(shell, profile)
    assert found["TLS"]["found"] == "not encrypted: ws://push.example.com/v1, http://pool.example.com"
    assert not found["TLS"]["good"]
    assert "ws://push.example.com/v1 is not encrypted" in str(found["sign-in"]["found"])
    allowed = stub.profile(push_url="ws://push.example.com/v1", password="wrong", allow_unencrypted=True)
    found = checks(shell, allowed)
    assert found["TLS"]["found"] == "not encrypted: ws://push.example.com/v1; the profile allows it"
    assert found["TLS"]["good"]


def test_an_unknown_certificate_is_told_apart() -> None:
    broken = GridUnreachable("the grid cannot be reached: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    assert "SSL_CERT_FILE" in advice_on(broken)
    assert "HTTPS_PROXY" in advice_on(GridUnreachable("the grid cannot be reached: Connection refused"))


def test_states_are_coloured_on_a_terminal_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(("STATE",), [("FAILED",)])
    assert "\x1b[31mFAILED" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(("STATE",), [("FAILED",)])
    assert capsys.readouterr().out == "STATE\nFAILED\n"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    heavy = ("httpx", "pydantic", "websockets", "rich", "asyncio", "boto3", "htcgrid_events", "htcgrid_local")
    code = (
        "import atexit, sys; from htcgrid.cli import main;"
        f"atexit.register(lambda: print([m for m in {heavy} if m in sys.modules], file=sys.stderr)); main()"
    )
    environment = {key: value for key, value in os.environ.items() if key != "_HTCGRID_COMPLETE"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("group", [[], ["config"], ["dlq"], ["task"], ["local"]])
def test_what_a_command_does_is_said_whole_in_80_columns(group: list[str]) -> None:
    command = [sys.executable, "-c", "from htcgrid.cli import main; main()", *group, "--help"]
    environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "Commands" in done.stdout
    cut = [line for line in done.stdout.splitlines() if line.rstrip().endswith(("...", "…"))]
    assert not [line for line in cut if "[OPTIONS]" not in line]


def test_commands_of_the_local_grid_are_there_when_asked_for() -> None:
    command = [sys.executable, "-c", "from htcgrid.cli import main; main()", "local", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Start a grid" in done.stdout


TAKES_A_PROFILE = [["list"], ["status", "0" * 32], ["config", "show"], ["config", "set", "--region", "x"], ["doctor"]]


@pytest.mark.parametrize("command", TAKES_A_PROFILE, ids=" ".join)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "the name of the profile is empty: give a name or a file, or leave it out"),
        ("folder.d", "cannot be read: Is a directory"),
        ("latin.json", "latin.json is not a text in UTF-8: save it as UTF-8"),
    ],
)
def test_a_profile_that_cannot_be_read_is_one_sentence(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], given: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.d").mkdir()
    (tmp_path / "latin.json").write_bytes('{"username": "é"}'.encode("latin-1"))
    done = shell.run(*command, "--profile", given)
    told = (done.out if command == ["doctor"] else done.err).splitlines()
    assert done.code in (1, 2)
    assert said in told[0]
    assert len(told) == 1 + (command == ["doctor"])
    assert "Errno" not in told[0]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["submit", ""], "the name of the file of tasks is empty: give a file, or - for standard input"),
        (["submit", "folder.d"], "folder.d cannot be read: Is a directory"),
        (["submit", "latin.json"], "line 1 of latin.json: it is no JSON array of tasks: it is not UTF-8"),
        (["dlq", "redrive", "0" * 32, "--task", "1", "--event", "folder.d"], "folder.d cannot be read: Is a directory"),
        (
            ["dlq", "redrive", "0" * 32, "--task", "1", "--event", "latin.json"],
            "latin.json is not a text in UTF-8: save",
        ),
        (["dlq", "redrive", "0" * 32, "--task", "1", "--event", ""], ". cannot be read: Is a directory"),
        (["results", "0" * 32, "-o", "folder.d", "--format", "json"], "folder.d cannot be written: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_taken_is_one_sentence(
    stub: StubGrid, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.d").mkdir()
    (tmp_path / "latin.json").write_bytes('["é"]'.encode("latin-1"))
    with Grid.connect(stub.profile()) as grid:
        session = grid.submit([1], session_id="0" * 32)
        stub.run(session.id, lambda event: event)
    done = shell.run(*command)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err
