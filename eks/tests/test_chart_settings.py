"""The agent understands and honours what the chart gives it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from eks.tests.rendering import CASES, CHART, agent_pod, containers, environment, objects, values_of

from htcgrid_agent.runtimes.function import RuntimeKind
from htcgrid_agent.settings import Settings, load_settings


def settings_of(case: str, worker_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [each for each in os.environ if each.startswith("HTCGRID_")]:
        monkeypatch.delenv(name)
    for name, value in environment(containers(agent_pod(objects(case)))["agent"]).items():
        monkeypatch.setenv(name, value if isinstance(value, str) else "pool-7c9d-x2x")
    monkeypatch.setenv("HTCGRID_WORKER_DIR", str(worker_dir))
    return load_settings()


@pytest.mark.parametrize("case", CASES)
def test_every_variable_is_a_setting(case: str) -> None:
    given = {name for name in environment(containers(agent_pod(objects(case)))["agent"]) if name.startswith("HTCGRID_")}
    assert given <= {f"HTCGRID_{field.upper()}" for field in Settings.model_fields}


@pytest.mark.parametrize("case", CASES)
def test_the_agent_starts_with_them(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = values_of(case)
    settings = settings_of(case, tmp_path, monkeypatch)
    assert settings.chunks_table == values["grid"]["chunksTable"]
    assert {priority.value: url for priority, url in settings.task_queue_urls.items()} == values["grid"][
        "taskQueueUrls"
    ]
    assert settings.task_events_queue_url == values["grid"]["taskEventsQueueUrl"]
    assert settings.data_bucket == values["grid"]["dataBucket"]
    assert settings.agent_id == settings.host == "pool-7c9d-x2x"
    assert settings.workers == values["worker"].get("count", 1)
    assert settings.grace_seconds == values.get("longestTaskSeconds", 300)


def test_values_become_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of("ipv6", tmp_path, monkeypatch)
    assert settings.watch_spot
    assert settings.log_level == "DEBUG"
    assert settings.prefetch == 0
    assert settings.lease_seconds == 90, "more settings win over those that the chart makes"
    assert settings.health_host == "::"
    zipped = settings_of("zip", tmp_path, monkeypatch)
    assert zipped.runtime is RuntimeKind.PROVIDED
    assert (zipped.store, zipped.store_settings["cache"]) == ("s3+redis", "risk-payloads")
    assert settings_of("foreign-image", tmp_path, monkeypatch).runtime is RuntimeKind.NODEJS


def test_only_the_agent_of_a_job_ends_when_it_is_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of("long-tasks", tmp_path, monkeypatch).idle_seconds == 120
    assert settings_of("grid", tmp_path, monkeypatch).idle_seconds is None


def test_the_schema_knows_the_runtimes_of_the_agent() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    runtimes = schema["properties"]["function"]["properties"]["runtime"]["enum"]
    assert set(runtimes) == {each.value for each in RuntimeKind} - {"auto"}
