"""What the chart renders is accepted by Helm and by the schemas of Kubernetes."""

import helm_python
import kubernetes_validate
import pytest
import yaml
from eks.tests.rendering import CASES, CHART, NAMESPACE, ROOT, find, kinds, merged, objects, render, values_of

EKS_VERSIONS = ("1.32", "1.36")
"""The oldest and the newest Kubernetes that EKS runs: the oldest in extended support until March 2027."""
DEFINED_ELSEWHERE = {"ScaledObject", "ScaledJob", "TriggerAuthentication", "PodMonitor"}
"""Kinds that are not Kubernetes' own. The tests with a cluster have the API server check those of KEDA."""

ALWAYS = {"ServiceAccount", "TriggerAuthentication", "NetworkPolicy", "PriorityClass"}
RENDERED = {
    "grid": ALWAYS | {"Deployment", "ScaledObject", "PodDisruptionBudget"},
    "zip": ALWAYS | {"Deployment", "ScaledObject", "PodDisruptionBudget"},
    "foreign-image": ALWAYS | {"Deployment", "ScaledObject", "PodDisruptionBudget", "Pod"},
    "long-tasks": ALWAYS | {"ScaledJob", "PodMonitor"},
    "elsewhere": {"TriggerAuthentication", "NetworkPolicy", "Deployment", "ScaledObject", "PodDisruptionBudget"},
    "ipv6": ALWAYS | {"Deployment", "ScaledObject", "PodDisruptionBudget"},
    "fixed": {"ServiceAccount", "PriorityClass", "Deployment"},
    "shared": ALWAYS | {"Deployment", "ScaledObject", "PodDisruptionBudget"},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", EKS_VERSIONS)
def test_helm_finds_nothing_to_warn_of(case: str, version: str) -> None:
    found = helm_python.lint(CHART, values_of(case), strict=True, namespace=NAMESPACE, kube_version=f"v{version}.0")
    assert found["total_charts_linted"] == 1
    assert found["errors"] == []


@pytest.mark.parametrize("case", CASES)
def test_a_release_has_what_its_values_ask_for(case: str) -> None:
    assert kinds(objects(case)) == RENDERED[case]
    assert len(objects(case)) == len(RENDERED[case])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", EKS_VERSIONS)
def test_kubernetes_knows_every_field(case: str, version: str) -> None:
    own = [each for each in objects(case) if each["kind"] not in DEFINED_ELSEWHERE]
    assert own
    for each in own:
        assert kubernetes_validate.validate(each, version, strict=True) == version


@pytest.mark.parametrize("version", EKS_VERSIONS)
def test_the_pod_of_a_job_is_one_that_kubernetes_knows(version: str) -> None:
    spec = find(objects("long-tasks"), "ScaledJob")["spec"]["jobTargetRef"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "pool"}, "spec": spec}
    kubernetes_validate.validate(job, version, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    deployment = find(render(values_of("grid")), "Deployment")
    deployment["spec"]["template"]["spec"]["terminationGraceSeconds"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGraceSeconds"):
        kubernetes_validate.validate(deployment, EKS_VERSIONS[0], strict=True)


@pytest.mark.parametrize("case", CASES)
def test_every_object_says_what_it_belongs_to(case: str) -> None:
    for each in objects(case):
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "htcgrid-agents"
        assert labels["app.kubernetes.io/instance"] == "pool"
        if each["kind"] != "PriorityClass":
            assert each["metadata"]["namespace"] == NAMESPACE


def test_the_plain_job_runs_what_helm_test_runs() -> None:
    job = yaml.safe_load((ROOT / "eks/single-task-test.yaml").read_text(encoding="utf-8"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    test = find(render(merged(values_of("grid"), {"test": {"image": container["image"]}})), "Pod")
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert job["spec"]["template"]["spec"] == test["spec"]
    for version in EKS_VERSIONS:
        kubernetes_validate.validate(job, version, strict=True)
