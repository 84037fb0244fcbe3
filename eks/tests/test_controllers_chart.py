"""What the chart of the controllers renders: accepted by Helm and Kubernetes, and no more than is needed."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from eks.tests import rendering

from htcgrid_eks.deletion_cost.main import Settings

CHART = Path(__file__).resolve().parents[1] / "chart/htcgrid-controllers"
IMAGE = {"deletionCost": {"image": "registry/controller:1"}}
CASES: dict[str, dict[str, Any]] = {
    "default": IMAGE,
    "drainer-alone": {"deletionCost": {"enabled": False}},
    "controller-alone": {**IMAGE, "nodeDrainer": {"enabled": False}},
    "ipv6": {**IMAGE, "ipFamily": "IPv6"},
    "elsewhere": {
        "deletionCost": {"image": "a", "intervalSeconds": 2.5, "agentLabels": {"a": "b", "c": "d"}, "agentPort": 9090},
        "networkPolicy": {"apiServer": ["10.0.0.0/24"]},
        "imagePullSecrets": ["registry"],
        "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "a", "operator": "Exists"}]},
    },
}
CONTROLLER = {"Deployment", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy"} | {
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
DRAINER = {"ClusterRole", "ClusterRoleBinding"}


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    with helm_python.Chart.load(CHART) as chart:
        texts = chart.render(deepcopy(values), name="controllers", namespace="grid")
    return [each for text in texts.values() for each in yaml.safe_load_all(text) if each]


def environment(values: dict[str, Any]) -> dict[str, str]:
    (container,) = rendering.find(render(values), "Deployment")["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each["value"] for each in container["env"]}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", ["1.32", "1.36"])
def test_helm_and_kubernetes_accept_it(case: str, version: str) -> None:
    found = helm_python.lint(CHART, CASES[case], strict=True, namespace="grid", kube_version=f"v{version}.0")
    assert found["errors"] == []
    for each in render(CASES[case]):
        assert kubernetes_validate.validate(each, version, strict=True) == version


def test_each_part_can_be_left_out() -> None:
    assert rendering.kinds(render(CASES["default"])) == CONTROLLER | DRAINER
    assert rendering.kinds(render(CASES["drainer-alone"])) == DRAINER
    assert rendering.kinds(render(CASES["controller-alone"])) == CONTROLLER


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "image"),
        ({"deletionCost": {**IMAGE["deletionCost"], "intervalSeconds": 0}}, "intervalSeconds"),
        ({"deletionCost": {**IMAGE["deletionCost"], "patchesPerSecond": 0}}, "patchesPerSecond"),
        ({"deletionCost": {**IMAGE["deletionCost"], "replicas": 2}}, "replicas"),
        ({"deletionCost": {**IMAGE["deletionCost"], "agentLabels": {"a": "b c"}}}, "agentLabels"),
        ({"deletionCost": {**IMAGE["deletionCost"], "memory": 64}}, "memory"),
        ({**IMAGE, "nodeDrainer": {"group": "system:masters"}}, "group"),
        ({**IMAGE, "networkPolicy": {"apiServer": ["somewhere"]}}, "apiServer"),
        ({**IMAGE, "ipFamily": "IPv5"}, "ipFamily"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_value_is_refused_by_its_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(helm_python.HelmError, match=named):
        render(values)


@pytest.mark.parametrize("case", ["default", "ipv6", "elsewhere"])
def test_the_program_takes_the_settings_that_it_is_given(case: str) -> None:
    given = environment(CASES[case])
    settings = Settings.from_environment(given)
    assert settings.namespace == "grid"
    assert {f"HTCGRID_{name.upper()}" for name in Settings.model_fields} == set(given)
    defaults = Settings.model_fields
    if case == "default":
        assert settings.interval_seconds == defaults["interval_seconds"].default
        assert settings.patches_per_second == defaults["patches_per_second"].default
        assert settings.selector == defaults["selector"].default


def test_the_pods_of_the_agents_chart_are_those_that_are_watched() -> None:
    labels = rendering.agent_pod(rendering.objects("grid"))["metadata"]["labels"]
    name, _, value = environment(IMAGE)["HTCGRID_SELECTOR"].partition("=")
    assert labels[name] == value
    ports = rendering.containers(rendering.agent_pod(rendering.objects("grid")))["agent"]["ports"]
    assert str(ports[0]["containerPort"]) == environment(IMAGE)["HTCGRID_AGENT_PORT"]


def test_agents_and_controller_let_each_other_through() -> None:
    rendered = render(IMAGE)
    labels = rendering.find(rendered, "Deployment")["spec"]["template"]["metadata"]["labels"]
    (let_in, *_) = rendering.find(rendering.objects("grid"), "NetworkPolicy")["spec"]["ingress"]
    assert let_in["from"][0]["podSelector"]["matchLabels"].items() <= labels.items()
    (to_agents, to_api_server) = rendering.find(rendered, "NetworkPolicy")["spec"]["egress"]
    agents = rendering.agent_pod(rendering.objects("grid"))["metadata"]["labels"]
    assert to_agents["to"][0]["podSelector"]["matchLabels"].items() <= agents.items()
    assert to_agents["ports"] == let_in["ports"]
    assert to_api_server["ports"] == [{"port": 443, "protocol": "TCP"}]


def test_there_is_never_a_second_controller() -> None:
    spec = rendering.find(render(IMAGE), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_its_account_is_mounted_into_its_pod_alone_and_may_see_and_patch_pods() -> None:
    rendered = render(IMAGE)
    assert rendering.find(rendered, "ServiceAccount")["automountServiceAccountToken"] is False
    assert rendering.find(rendered, "Role")["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "patch"]}
    ]
