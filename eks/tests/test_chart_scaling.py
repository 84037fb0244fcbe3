"""How the chart has KEDA scale the agents."""

import re

import pytest
from eks.tests.rendering import ROOT, Object, find, merged, objects, render, values_of


def spec_of(kind: str, case: str = "grid") -> Object:
    return dict(find(objects(case), kind)["spec"])


def wanted(spec: Object, **seen: float) -> float:
    """What the formula answers. Its terms mean the same in Python, but for the choice between two."""
    formula = spec["advanced"]["scalingModifiers"]["formula"]
    if "?" in formula:
        known, by_work, by_length = re.split(" [?:] ", formula)
        formula = f"{by_work} if {known} else {by_length}"
    return float(eval(formula, {"min": min, "max": max, "__builtins__": {}}, seen))  # noqa: S307


def test_all_queues_are_watched_with_what_agents_hold() -> None:
    for kind, case in (("ScaledObject", "grid"), ("ScaledJob", "long-tasks")):
        spec = spec_of(kind, case)
        queues = {each["name"]: each for each in spec["triggers"] if each["type"] == "aws-sqs-queue"}
        assert spec["pollingInterval"] == 5
        assert {name: each["metadata"]["queueURL"] for name, each in queues.items()} == values_of(case)["grid"][
            "taskQueueUrls"
        ]
        assert all(each["metadata"]["scaleOnInFlight"] == "true" for each in queues.values())


@pytest.mark.parametrize("case", ["grid", "long-tasks", "elsewhere"])
def test_every_trigger_signs_in_as_the_values_say(case: str) -> None:
    authentication = find(objects(case), "TriggerAuthentication")
    triggers = spec_of("ScaledJob" if case == "long-tasks" else "ScaledObject", case)["triggers"]
    assert all(each["authenticationRef"]["name"] == authentication["metadata"]["name"] for each in triggers)
    assert all(each["metadata"]["awsRegion"] == "eu-west-1" for each in triggers)
    if case == "elsewhere":
        assert {each["name"] for each in authentication["spec"]["secretTargetRef"]} == {"scaling-keys"}
        assert {each["metadata"]["awsEndpoint"] for each in triggers} == {"http://10.88.0.1:4566"}
    else:
        assert authentication["spec"] == {"podIdentity": {"provider": "aws"}}


def test_the_metrics_are_those_that_the_scaling_function_publishes() -> None:
    triggers = {each["name"]: each["metadata"] for each in spec_of("ScaledObject")["triggers"]}
    assert {name: triggers[name]["metricName"] for name in ("desired", "share")} == {
        "desired": "DesiredAgents",
        "share": "AgentsPerMillionChunks",
    }
    for metadata in (triggers["desired"], triggers["share"]):
        assert metadata["namespace"] == "HTCGrid"
        assert dict(zip(metadata["dimensionName"].split(";"), metadata["dimensionValue"].split(";"), strict=True)) == {
            "Grid": "risk",
            "Partition": "default",
        }
        assert int(metadata["metricCollectionTime"]) % int(metadata["metricStatPeriod"]) == 0
        assert (metadata["ignoreNullValues"], metadata["minMetricValue"]) == ("true", "0")


def test_the_formula_is_the_one_that_is_written_down() -> None:
    text = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    (written,) = re.findall(r"```\n(share .*?)\n```", text, re.DOTALL)
    formula = spec_of("ScaledObject")["advanced"]["scalingModifiers"]["formula"]
    chunks = "(high + normal + low)"
    assert formula.replace(f"desired, {chunks}", "desired, high + normal + low") == " ".join(written.split()).replace(
        "workers of an agent", "1"
    )


@pytest.mark.parametrize(
    ("high", "normal", "low", "desired", "share", "agents"),
    [
        (0, 0, 0, 0, 0, 0),
        (0, 0, 0, 80, 16_667, 0),  # the metrics are a minute old: the work is done
        (0, 5000, 10, 0, 0, 5010),  # nothing is known: a place for each chunk
        (3, 5000, 0, 0, 10_000, 50.03),  # a burst of short chunks that the metric has not seen: as many as it is worth
        (0, 60, 0, 60, 16_667, 60),  # what is busy is kept
        (0, 100, 0, 100, 1_000_000, 100),  # long ones: one each
    ],
)
def test_agents_follow_work_and_not_the_length_of_queues(
    high: float, normal: float, low: float, desired: float, share: float, agents: float
) -> None:
    spec = spec_of("ScaledObject")
    assert wanted(spec, high=high, normal=normal, low=low, desired=desired, share=share) == pytest.approx(agents)


def test_the_pool_is_whole_agents_of_several_places() -> None:
    spec = spec_of("ScaledObject", "foreign-image")
    assert wanted(spec, high=0, normal=16, low=1, desired=1e6, share=0) == 17 / 8
    assert spec["advanced"]["scalingModifiers"]["target"] == "1", "KEDA falls back only with a whole number"
    assert spec["advanced"]["scalingModifiers"]["metricType"] == "AverageValue"


def test_without_the_bound_nothing_is_asked_of_cloudwatch() -> None:
    spec = spec_of("ScaledObject", "elsewhere")
    assert {each["type"] for each in spec["triggers"]} == {"aws-sqs-queue"}
    assert wanted(spec, high=1, normal=2, low=3) == 6


def test_out_fast_and_in_slowly() -> None:
    behavior = spec_of("ScaledObject", "foreign-image")["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behavior["scaleUp"]["policies"] == [{"type": "Pods", "value": 2000, "periodSeconds": 15}]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 300
    assert behavior["scaleDown"]["policies"] == [{"type": "Percent", "value": 50, "periodSeconds": 60}]


@pytest.mark.parametrize(("fewest", "kept"), [(0, 1), (1, 1), (7, 7)])
def test_agents_stay_while_the_queues_cannot_be_read(fewest: int, kept: int) -> None:
    values = merged(values_of("grid"), {"scaling": {"minAgents": fewest}})
    spec = find(render(values), "ScaledObject")["spec"]
    assert spec["minReplicaCount"] == fewest
    # With 0 KEDA would take the last agents away after the cooldown.
    assert spec["fallback"] == {"failureThreshold": 3, "behavior": "currentReplicasIfHigher", "replicas": kept}


def test_who_is_scaled_has_no_number_of_its_own() -> None:
    deployment = find(objects("grid"), "Deployment")
    assert spec_of("ScaledObject")["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"], "an upgrade would undo what KEDA has set"
    assert find(objects("fixed"), "Deployment")["spec"]["replicas"] == 5


def test_jobs_are_started_for_all_queues_together_and_never_ended() -> None:
    spec = spec_of("ScaledJob", "long-tasks")
    assert spec["scalingStrategy"] == {"strategy": "default", "multipleScalersCalculation": "sum"}
    assert spec["rollout"] == {"strategy": "gradual"}, "an upgrade lets running agents end"
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 20)
    job = spec["jobTargetRef"]
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (1, 1, 0)
    assert "activeDeadlineSeconds" not in job
