"""The chart's values: each is explained, and a wrong one is refused with its name."""

from typing import Any

import helm_python
import pytest
import yaml
from eks.tests.rendering import CHART, find, merged, render, values_of
from eks.tests.values_table import PAGE, Value, page, values
from helm_python import HelmError

EVERY = list(values())
MUST = [
    "region",
    "grid.name",
    "grid.chunksTable",
    "grid.taskQueueUrls.high",
    "grid.taskQueueUrls.normal",
    "grid.taskQueueUrls.low",
    "grid.taskEventsQueueUrl",
    "grid.dataBucket",
    "agent.image",
    "worker.image",
]
WRONG: list[tuple[str, Any]] = [
    ("partition", "Risk_1"),
    ("region", "Ireland"),
    ("mode", "daemon"),
    ("longestTaskSeconds", 0),
    ("longestTaskSeconds", 3601),
    ("longestTaskSeconds", "5m"),
    ("ipFamily", "IPv5"),
    ("imagePullSecrets", "registry"),
    ("grid.name", "risk;default"),
    ("grid.chunksTable", "a b"),
    ("grid.taskQueueUrls.low", "risk-low"),
    ("grid.taskEventsQueueUrl", "https://sqs.eu-west-1.amazonaws.com/risk-events"),
    ("grid.dataBucket", "Risk_Bucket"),
    ("grid.partitionsTable", "a b"),
    ("grid.store", "my store"),
    ("grid.storeSettings", {"cluster": True}),
    ("grid.formerStores", {"redis": "rediss://host:6379"}),
    ("grid.fileSystem.claim", "Payloads"),
    ("grid.fileSystem.mountPath", "payloads"),
    ("grid.fileSystem.mountPath", "/mnt/../etc"),
    ("grid.endpointUrl", "localhost:4566"),
    ("sharedData.hostPath", "data"),
    ("sharedData.megabytes", 0),
    ("credentials.source", "instance"),
    ("credentials.secretName", "Keys!"),
    ("agent.image", "two words"),
    ("agent.imagePullPolicy", "Sometimes"),
    ("agent.cpu", 0),
    ("agent.memory", "512Mi"),
    ("agent.tmpSize", 0),
    ("agent.logLevel", "TRACE"),
    ("agent.leaseSeconds", 2),
    ("agent.watchSpot", "yes"),
    ("agent.extraEnv", {"A": 1}),
    ("agent.envFromSecrets", ["Bad_Name"]),
    ("worker.command", "/lambda-entrypoint.sh"),
    ("worker.count", 0),
    ("worker.count", 257),
    ("worker.minCPU", "800m"),
    ("worker.maxCPU", 0),
    ("worker.minMemory", "2Gi"),
    ("worker.maxMemory", -1),
    ("worker.extraResources", {"cpu": 1}),
    ("worker.extraResources", {"nvidia.com/gpu": "many"}),
    ("worker.extraResources", {"nvidia.com/gpu": -1}),
    ("worker.tmpSize", 0.5),
    ("worker.runAsUser", 0),
    ("worker.runAsUser", 10001),
    ("function.runtime", "ruby"),
    ("function.handler", "two words"),
    ("function.location", "https://bucket/lambda.zip"),
    ("function.sha256", "abc"),
    ("function.size", 0),
    ("function.name", "a function"),
    ("function.environment", {"AWS_PROFILE": "x"}),
    ("function.environment", {"HTCGRID_WORKERS": "9"}),
    ("scaling.enabled", 1),
    ("scaling.minAgents", -1),
    ("scaling.minAgents", 101),
    ("scaling.maxAgents", 0),
    ("scaling.pollingSeconds", 0),
    ("scaling.chunksPerAgent", 0),
    ("scaling.bound", "no"),
    ("scaling.cooldownSeconds", -1),
    ("scaling.scaleInAfterSeconds", 3601),
    ("scaling.scaleInPercent", 0),
    ("scaling.idleSeconds", 0),
    ("serviceAccount.name", "Agents"),
    ("networkPolicy.https", ["10.0.0.0"]),
    ("networkPolicy.https", ["999.1.1.1/8"]),
    ("networkPolicy.dns", ["10.0.0.0/33"]),
    ("networkPolicy.egress", [{"cidr": "10.0.0.0/8"}]),
    ("networkPolicy.egress", [{"cidr": "10.0.0.0/8", "port": 65536}]),
    ("disruptionBudget.maxUnavailable", 0),
    ("disruptionBudget.maxUnavailable", "0%"),
    ("priorityClass.value", 2_000_000_000),
    ("scheduling.spot", "always"),
    ("scheduling.nodeSelector", {"disk": 1}),
    ("scheduling.tolerations", [{"key": "a", "operator": "Is"}]),
    ("scheduling.affinity", {"nodes": {}}),
    ("scheduling.affinity.nodeAffinity", {}),
    ("scheduling.topologySpread", [{"topologyKey": "zone"}]),
    ("scheduling.doNotDisruptFromSeconds", 0),
    ("metrics.annotations", "on"),
    ("metrics.interval", "often"),
    ("podLabels", {"a": 1}),
    ("podLabels", {"app.kubernetes.io/name": "other"}),
    ("podAnnotations", {"eks.amazonaws.com/skip-containers": "none"}),
    ("test.profileSecret", ""),
    ("test.event", "x = 1"),
    ("test.event", '{"x":\n1}'),
    ("test.timeoutSeconds", 0),
]
"""Values, each wrong by itself, over those of `grid`."""


def nested(name: str, value: object) -> dict[str, Any]:
    for key in reversed(name.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def refusal(changes: dict[str, Any]) -> str:
    with pytest.raises(HelmError) as refused:
        render(merged(values_of("grid"), changes))
    return str(refused.value)


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_by_name(name: str, value: object) -> None:
    said = refusal(nested(name, value))
    assert f"/{name.replace('.', '/')}" in said or f"{name}:" in said or _key_of(value) in said


def _key_of(value: object) -> str:
    """Of a map a rule names the key that it forbids."""
    return f"'{next(iter(value))}'" if isinstance(value, dict) and value else "nowhere"


@pytest.mark.parametrize("name", MUST)
def test_what_has_no_default_must_be_given(name: str) -> None:
    assert f"/{name.replace('.', '/')}'" in refusal(nested(name, ""))


@pytest.mark.parametrize("section", ["", *(each.name for each in EVERY if each.is_section)])
def test_a_value_that_is_not_known_is_refused_by_name(section: str) -> None:
    name = f"{section}.colour" if section else "colour"
    assert "additional properties 'colour' not allowed" in refusal(nested(name, "blue"))


@pytest.mark.parametrize("name", [each.name for each in EVERY if each.default is not None])
def test_null_takes_nothing_away(name: str) -> None:
    assert f"missing property '{name.rpartition('.')[2]}'" in refusal(nested(name, None))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"worker": {"minCPU": 800, "maxCPU": "700"}}, "worker.maxCPU: 700 thousandths"),
        ({"worker": {"minMemory": "1900", "maxMemory": 1200}}, "worker.maxMemory: 1200 MiB are less"),
        ({"scaling": {"minAgents": 5, "maxAgents": 4}}, "scaling.minAgents: 5 are more than the 4"),
        ({"credentials": {"source": "secret"}}, "/credentials/secretName"),
        ({"function": {"location": "s3://bucket/lambda.zip"}}, "/function/sha256"),
        ({"function": {"sha256": "0" * 64}}, "/function/sha256"),
        ({"grid": {"store": "s3+redis"}}, "/grid/storeSettings"),
        ({"grid": {"store": "redis"}}, "/grid/storeSettings"),
        ({"grid": {"store": "filesystem", "fileSystem": {"claim": "payloads"}}}, "/grid/storeSettings"),
        ({"grid": {"store": "filesystem", "storeSettings": {"folder": "/mnt/payloads"}}}, "/grid/fileSystem/claim"),
        ({"grid": {"formerStores": {"filesystem": {"folder": "/mnt/payloads"}}}}, "/grid/fileSystem/claim"),
        ({"region": "us-east-1"}, "region: us-east-1 is not that of grid.taskQueueUrls.high"),
        ({"metrics": {"podMonitor": True}}, "metrics.namespace: name the namespace"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name: name the service account"),
        ({"mode": "job", "scaling": {"minAgents": 1}}, "/scaling/minAgents"),
        ({"mode": "job", "scaling": {"enabled": False}}, "/scaling/enabled"),
    ],
)
def test_values_that_do_not_go_together_are_refused_by_name(changes: dict[str, Any], name: str) -> None:
    assert name in refusal(changes)


def test_long_tasks_are_for_jobs() -> None:
    assert "/longestTaskSeconds" in refusal({"longestTaskSeconds": 43200})
    (job,) = (
        each
        for each in render(merged(values_of("grid"), {"mode": "job", "longestTaskSeconds": 43200}))
        if each["kind"] == "ScaledJob"
    )
    assert job["spec"]["jobTargetRef"]["template"]["spec"]["terminationGracePeriodSeconds"] == 43230


def test_numbers_may_be_written_as_the_first_htc_grid_did() -> None:
    sizes = {"minCPU": "800", "maxCPU": "900", "minMemory": "1200", "maxMemory": "1900"}
    as_numbers = {name: int(size) for name, size in sizes.items()}
    rendered = [find(render(merged(values_of("grid"), {"worker": each})), "Deployment") for each in (sizes, as_numbers)]
    assert rendered[0] == rendered[1]


# --- what is written down ---


@pytest.mark.parametrize("value", EVERY, ids=[each.name for each in EVERY])
def test_every_value_says_what_it_means(value: Value) -> None:
    assert value.meaning.endswith((".", "`", ")"))


def test_the_page_is_that_of_the_chart() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: .venv/bin/python -m eks.tests.values_table"


def test_the_page_says_what_must_be_given() -> None:
    given = [line.split("`")[1] for line in page().splitlines() if line.endswith("|") and "| must be given |" in line]
    assert given == MUST


def test_the_schema_has_a_rule_for_every_value_and_no_other() -> None:
    with helm_python.Chart.load(CHART) as chart:
        schema = chart.schema
    assert schema is not None

    def names(properties: dict[str, Any], prefix: str = "") -> set[str]:
        found = set()
        for name, rule in properties.items():
            found.add(prefix + name)
            if rule.get("additionalProperties") is False and (prefix + name) in sections:
                found |= names(rule["properties"], f"{prefix}{name}.")
        return found

    sections = {each.name for each in EVERY if each.is_section}
    assert names(schema["properties"]) - {"global"} == {each.name for each in EVERY}


def test_defaults_obey_the_rules() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert render(merged(defaults, values_of("grid"))) == render(values_of("grid"))
