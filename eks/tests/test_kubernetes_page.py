"""The commands of docs/kubernetes.md name what is there, and the values in it are taken by the charts."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from eks.tests import node_rendering
from eks.tests.rendering import CHART
from tests.template.stack import ROOT, load

PAGE = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
STACKS = {"htcgrid": "template.yaml", "htcgrid-eks": "eks/cluster.yaml"}
OUTPUTS = {
    "TaskQueueHighUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/high",
    "TaskQueueNormalUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/normal",
    "TaskQueueLowUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/low",
    "TaskEventsQueueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/events",
}
"""What the stack of a grid answers where the form of the answer is checked."""


@cache
def go_module(name: str) -> str:
    """The version of a module that the tests on a real cluster use."""
    [version] = re.findall(rf"^\s+{name} v(\S+)", (ROOT / "tests/kubernetes/tools/go.mod").read_text("utf-8"), re.M)
    return str(version)


def pool_of_agents() -> dict[str, Any]:
    """The values of step 8, with what its commands would answer."""
    [text] = re.findall(r"--values - <<END\n(.*?)^ *END$", PAGE, re.S | re.M)
    for stack, name in re.findall(r"\$\(out (\S+) (\w+)\)", text):
        text = text.replace(f"$(out {stack} {name})", OUTPUTS.get(name, f"{stack}-{name.lower()}"))
    text = text.replace("$AWS_REGION", "eu-west-1").replace("$REGISTRY", "123456789012.dkr.ecr.eu-west-1.amazonaws.com")
    values: dict[str, Any] = yaml.safe_load(re.sub(r"\$\(sha256sum [^)]+\)", "0" * 64, text))
    return values


def test_it_takes_fewer_than_ten_steps() -> None:
    steps = [int(number) for number in re.findall(r"^(\d+)\. ", PAGE, re.M)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) < 10


def test_outputs_of_stacks_exist() -> None:
    asked = re.findall(r"\bout (htcgrid\S*) (\w+)", PAGE)
    assert len(asked) >= 8
    for stack, name in asked:
        assert name in load(STACKS[stack])["Outputs"], name


def test_parameters_of_the_cluster_exist_and_all_that_must_be_given_are() -> None:
    [command] = re.findall(r"sam deploy --config-env cluster --parameter-overrides((?:.*\\\n)*.*)", PAGE)
    given = set(re.findall(r"\b([A-Z]\w+)=", command))
    parameters = load("eks/cluster.yaml")["Parameters"]
    assert {name for name, each in parameters.items() if "Default" not in each} <= given <= parameters.keys()


def test_the_chart_of_the_agents_takes_the_values_of_the_page() -> None:
    with helm_python.Chart.load(CHART) as chart:
        texts = chart.render(pool_of_agents(), name="htcgrid-agents", namespace="htcgrid")
    (text,) = (text for name, text in texts.items() if name.endswith("/deployment.yaml"))
    deployment = yaml.safe_load(text)
    pod = deployment["spec"]["template"]["spec"]
    # The pod is the one that the stack gives the role, and finds the nodes of the page's pool.
    parameters = load("eks/cluster.yaml")["Parameters"]
    assert pod["serviceAccountName"] == parameters["AgentServiceAccount"]["Default"]
    [node_pool] = node_rendering.objects("cluster")["NodePool"].values()
    template = node_pool["spec"]["template"]
    assert pod["nodeSelector"].items() >= {("htcgrid/pool", template["metadata"]["labels"]["htcgrid/pool"])}
    [tolerated] = [each for each in pod["tolerations"] if each["key"] == template["spec"]["taints"][0]["key"]]
    assert tolerated["operator"] == "Exists"


def test_the_chart_of_the_nodes_takes_the_pools_of_the_page() -> None:
    [text] = re.findall(r"```yaml\n(pools:.*?)```", PAGE, re.S)
    assert node_rendering.render(node_rendering.values_of("cluster") | yaml.safe_load(text))["NodePool"]


@pytest.mark.parametrize(
    ("part", "module"), [("kedacore", "github.com/kedacore/keda/v2"), ("karpenter/", "sigs.k8s.io/karpenter")]
)
def test_versions_are_those_of_the_tests(part: str, module: str) -> None:
    version = go_module(module)
    found = {
        each
        for line in PAGE.replace("\\\n", " ").splitlines()
        if part in line
        for each in re.findall(r"\b\d+\.\d+\.\d+\b", line)
    }
    assert found == {version}


def test_the_table_of_the_first_htc_grid_has_every_key() -> None:
    schema = json.loads((Path(node_rendering.CHART) / "values.schema.json").read_text(encoding="utf-8"))
    table = PAGE[PAGE.index("| key | here |") :].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", "\n".join(row.split("|")[1] for row in table.splitlines()))) == set(
        schema["$defs"]["workerGroup"]["properties"]
    )
