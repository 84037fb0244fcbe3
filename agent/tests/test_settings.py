"""What an agent says of its settings before it starts."""

import os
import subprocess
import sys
from pathlib import Path

import botocore.session
import pytest
from agent.tests.harness import PYTHON_RUNTIMES

from htcgrid_agent.aws.endpoints import refuse_unsupported
from htcgrid_agent.errors import BadSettings
from htcgrid_agent.settings import load_settings

GOOD = {
    "HTCGRID_CHUNKS_TABLE": "chunks",
    "HTCGRID_TASK_QUEUE_URLS": '{"normal": "http://127.0.0.1/normal"}',
    "HTCGRID_TASK_EVENTS_QUEUE_URL": "http://127.0.0.1/events",
    "HTCGRID_DATA_BUCKET": "data",
    "HTCGRID_HANDLER": "handler.handler",
}


@pytest.fixture(autouse=True)
def good(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HTCGRID_FUNCTION_DIR", str(tmp_path))


def test_good_settings_are_read() -> None:
    settings = load_settings()
    assert settings.chunks_table == "chunks"
    assert settings.lease_seconds == 60
    assert load_settings().agent_id != settings.agent_id


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HTCGRID_WORKERS", "0", "greater than or equal to 1"),
        ("HTCGRID_WORKERS", "many", "valid integer"),
        ("HTCGRID_LEASE_SECONDS", "1", "greater than or equal to 3"),
        ("HTCGRID_FUNCTION_DIR", "/nowhere", "directory"),
        ("HTCGRID_TASK_QUEUE_URLS", "no json", "JSON"),
        ("HTCGRID_TASK_QUEUE_URLS", '{"urgent": "u"}', "'high', 'normal' or 'low'"),
        ("HTCGRID_TASK_QUEUE_URLS", "{}", "at least 1"),
        ("HTCGRID_HANDLER", "two words", "pattern"),
        ("HTCGRID_STORE", "disk", "there is no store 'disk'; there are: filesystem, redis, s3, s3+redis"),
        ("HTCGRID_STORE", "redis", "url: Field required"),
        ("HTCGRID_FORMER_STORES", '{"redis": {}}', "url: Field required"),
        ("HTCGRID_FORMER_STORES", '{"disk": {}}', "there is no store 'disk'"),
        ("HTCGRID_FORMER_STORES", "redis", "JSON object"),
        ("HTCGRID_STORE_SETTINGS", '{"folder": "/mnt"}', "folder: Extra inputs are not permitted"),
        ("HTCGRID_LOG_LEVEL", "LOUD", "DEBUG|INFO|WARNING|ERROR"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_legal(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as caught:
        load_settings()
    assert name in str(caught.value)
    assert words in str(caught.value)


def test_every_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = set(GOOD) - {"HTCGRID_HANDLER"}
    for name in missing:
        monkeypatch.delenv(name)
    with pytest.raises(BadSettings) as caught:
        load_settings()
    assert all(name in str(caught.value) for name in missing)


@pytest.mark.parametrize("name", ["HTCGRID_HANDLER", "HTCGRID_FUNCTION_DIR"])
def test_an_agent_must_be_told_what_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(BadSettings) as caught:
        load_settings()
    assert f"{name} must be set unless" in str(caught.value)
    monkeypatch.setenv("HTCGRID_WORKER_DIR", str(tmp_path))
    load_settings()


def test_a_file_says_what_the_environment_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text("HTCGRID_CHUNKS_TABLE=other\nHTCGRID_WORKERS=7\n")
    monkeypatch.setenv("HTCGRID_SETTINGS_FILE", str(file))
    settings = load_settings()
    assert (settings.workers, settings.chunks_table) == (7, "chunks")
    file.unlink()
    with pytest.raises(BadSettings, match="HTCGRID_SETTINGS_FILE"):
        load_settings()


def check() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "htcgrid_agent", "--check"], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_check_says_yes_or_no(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HTCGRID_FUNCTION_DIR", str(tmp_path))
    (tmp_path / "handler.py").write_text("def handler(event, context):\n    return event\n")
    right = check()
    assert (right.returncode, right.stdout) == (0, "The settings are right, and a worker loads the handler.\n")
    monkeypatch.setenv("HTCGRID_WORKERS", "-1")
    refused = check()
    assert refused.returncode == 2
    assert "HTCGRID_WORKERS" in refused.stderr


@pytest.mark.parametrize("runtime", PYTHON_RUNTIMES)
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module\n", "Runtime.ImportModuleError: Unable to import module 'handler'"),
        ("def handler(event, context):\n    return 1 +\n", "Runtime.UserCodeSyntaxError: "),
        ("1 / 0\n", "ZeroDivisionError: "),
        ("import os; os._exit(7)\n", "Runtime.ExitError: The worker ended with exit code 7 before its first task."),
        ("import time; time.sleep(60)\n", "Sandbox.Timedout: The handler was not loaded within 1 s."),
    ],
    ids=["import", "syntax", "error", "exit", "time"],
)
def test_a_check_shows_why_the_handler_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runtime: str, code: str, said: str
) -> None:
    monkeypatch.setenv("HTCGRID_FUNCTION_DIR", str(tmp_path))
    monkeypatch.setenv("HTCGRID_RUNTIME", runtime)
    monkeypatch.setenv("HTCGRID_INIT_TIMEOUT_SECONDS", "1" if "sleep" in code else "60")
    (tmp_path / "handler.py").write_text(code)
    refused = check()
    assert refused.returncode == 2
    (told,) = (line for line in refused.stderr.splitlines() if line.startswith("htcgrid-agent: "))
    assert told.startswith(f"htcgrid-agent: the handler cannot be loaded: {said}")


@pytest.mark.parametrize(
    ("variables", "config", "words"),
    [
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "", "AWS_USE_FIPS_ENDPOINT"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "", "AWS_USE_DUALSTACK_ENDPOINT"),
        ({}, "[default]\nuse_fips_endpoint = true\n", "use_fips_endpoint"),
        ({}, "[default]\ns3 =\n  use_dualstack_endpoint = true\n", "use_dualstack_endpoint of s3"),
        ({"AWS_USE_FIPS_ENDPOINT": "false"}, "[default]\ns3 =\n  use_dualstack_endpoint = false\n", ""),
    ],
)
def test_endpoints_that_are_not_supported_are_refused_at_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], config: str, words: str
) -> None:
    file = tmp_path / "config"
    file.write_text(config)
    for name, value in {**variables, "AWS_CONFIG_FILE": str(file)}.items():
        monkeypatch.setenv(name, value)
    if words:
        with pytest.raises(BadSettings, match=f"{words}.*unset it, and name the endpoints by AWS_ENDPOINT_URL_SQS"):
            refuse_unsupported(botocore.session.get_session())
    else:
        refuse_unsupported(botocore.session.get_session())


def test_an_agent_that_is_asked_for_fips_endpoints_does_not_start() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "htcgrid_agent"],
        env={**os.environ, "AWS_USE_FIPS_ENDPOINT": "true"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("htcgrid-agent: AWS_USE_FIPS_ENDPOINT")
