"""What the chart of the nodes tells Karpenter for each pool, and what it says where node groups are made instead."""

import json
import re
import shlex
from typing import Any

import helm_python
import pytest
from eks.tests.node_rendering import CASES, CHART, WITH_KARPENTER, Object, objects, render, texts, values_of
from tests.template.stack import load

GROUP = load("eks/node-group.yaml")


def notes(values: Object) -> str:
    (text,) = (text for name, text in texts(values).items() if name.endswith("NOTES.txt"))
    return text


def requirements(pool: Object) -> dict[str, list[str]]:
    """What an instance must be: the values that are asked for, by label."""
    return {each["key"]: each["values"] for each in pool["spec"]["template"]["spec"]["requirements"]}


def pool(**values: Any) -> Object:
    return values_of("cluster") | {"pools": [{"name": "one", **values}]}


# ---- In every release ----


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", ["1.32", "1.36"])
def test_helm_finds_nothing_to_warn_of(case: str, version: str) -> None:
    found = helm_python.lint(CHART, values_of(case), strict=True, namespace="kube-system", kube_version=f"v{version}.0")
    assert found["total_charts_linted"] == 1
    assert found["errors"] == []


@pytest.mark.parametrize("case", WITH_KARPENTER)
def test_every_pool_of_nodes_has_its_class_and_every_class_its_pool(case: str) -> None:
    used = {each["spec"]["template"]["spec"]["nodeClassRef"]["name"] for each in objects(case)["NodePool"].values()}
    assert used == set(objects(case)["EC2NodeClass"])
    assert used


@pytest.mark.parametrize("case", WITH_KARPENTER)
def test_no_pod_reaches_the_metadata_of_its_node(case: str) -> None:
    for each in objects(case)["EC2NodeClass"].values():
        options = each["spec"]["metadataOptions"]
        assert (options["httpTokens"], options["httpPutResponseHopLimit"]) == ("required", 1)


@pytest.mark.parametrize("case", WITH_KARPENTER)
def test_disks_are_encrypted_and_nodes_have_no_public_address(case: str) -> None:
    for each in objects(case)["EC2NodeClass"].values():
        assert all(device["ebs"]["encrypted"] is True for device in each["spec"]["blockDeviceMappings"])
        assert each["spec"]["associatePublicIPAddress"] is False


@pytest.mark.parametrize("case", WITH_KARPENTER)
def test_nodes_take_only_pods_that_say_so_and_carry_the_name_of_their_pool(case: str) -> None:
    for each in objects(case)["NodePool"].values():
        template = each["spec"]["template"]
        name = template["metadata"]["labels"]["htcgrid/pool"]
        assert template["spec"]["taints"][0] == {"key": "htcgrid/pool", "value": name, "effect": "NoSchedule"}
        assert name == template["spec"]["nodeClassRef"]["name"]


@pytest.mark.parametrize("case", WITH_KARPENTER)
def test_money_is_bounded_and_nodes_that_must_go_do_not_wait_for_ever(case: str) -> None:
    for each in objects(case)["NodePool"].values():
        assert each["spec"]["limits"]["nodes"] >= 1
        assert each["spec"]["template"]["spec"]["terminationGracePeriod"]


# ---- What a pool may ask for ----


def test_without_pools_there_is_one_with_spot_instances_first() -> None:
    [(name, node_pool)] = objects("cluster")["NodePool"].items()
    assert name == "agents"
    asked = requirements(node_pool)
    assert asked["karpenter.sh/capacity-type"] == ["spot", "on-demand"]
    assert asked["karpenter.k8s.aws/instance-category"] == ["c", "m", "r"]


def test_a_base_of_on_demand_nodes_comes_before_the_rest() -> None:
    base, rest = (objects("several")["NodePool"][name] for name in ("base-base", "base"))
    assert requirements(base)["karpenter.sh/capacity-type"] == ["on-demand"]
    assert requirements(rest)["karpenter.sh/capacity-type"] == ["spot", "on-demand"]
    assert base["spec"]["weight"] > rest["spec"]["weight"]
    assert (base["spec"]["limits"]["nodes"], rest["spec"]["limits"]["nodes"]) == (2, 8)
    # Agents choose both by the one name.
    assert {each["spec"]["template"]["metadata"]["labels"]["htcgrid/pool"] for each in (base, rest)} == {"base"}


@pytest.mark.parametrize(("percent", "certain", "nodes"), [(10, 1, 5), (20, 1, 10), (25, 1, 12), (50, 1, 25)])
def test_a_part_of_on_demand_nodes_is_that_of_the_shares(percent: int, certain: int, nodes: int) -> None:
    pools = render(pool(onDemandPercent=percent, maxNodes=50))["NodePool"]
    on_demand, rest = pools["one-on-demand"], pools["one"]
    shares = [requirements(each)["htcgrid/share"] for each in (on_demand, rest)]
    assert len(shares[0]) == certain
    assert 100 * len(shares[0]) == percent * sum(map(len, shares))
    assert not set(shares[0]) & set(shares[1])
    assert (on_demand["spec"]["limits"]["nodes"], rest["spec"]["limits"]["nodes"]) == (nodes, 50 - nodes)
    assert requirements(on_demand)["karpenter.sh/capacity-type"] == ["on-demand"]


def test_processors_are_bounded_where_types_are_not_named() -> None:
    arm = objects("several")["NodePool"]["arm"]
    bounds = {
        each["operator"]: each["values"]
        for each in arm["spec"]["template"]["spec"]["requirements"]
        if each["key"] == "karpenter.k8s.aws/instance-cpu"
    }
    assert bounds == {"Gt": ["1"], "Lt": ["17"]}
    assert "karpenter.k8s.aws/instance-cpu" not in requirements(objects("gpu")["NodePool"]["gpu"])


def test_what_a_pool_says_replaces_the_default_alone() -> None:
    pools = objects("several")
    arm, other = pools["EC2NodeClass"]["arm"]["spec"], pools["EC2NodeClass"]["part"]["spec"]
    assert arm["amiSelectorTerms"] == [{"alias": "bottlerocket@v1.30.0"}]
    assert arm["blockDeviceMappings"][0]["deviceName"] == "/dev/xvdb"
    assert arm["blockDeviceMappings"][0]["ebs"]["kmsKeyID"].endswith("key/1234")
    assert other["amiSelectorTerms"] == [{"alias": "al2023@latest"}]
    assert other["blockDeviceMappings"][0]["deviceName"] == "/dev/xvda"
    assert arm["blockDeviceMappings"][0]["ebs"]["volumeSize"] == other["blockDeviceMappings"][0]["ebs"]["volumeSize"]


def test_long_tasks_are_left_alone() -> None:
    spec = objects("long-tasks")["NodePool"]["long"]["spec"]
    assert spec["disruption"]["consolidationPolicy"] == "WhenEmpty"
    assert spec["disruption"]["budgets"][1]["reasons"] == ["Drifted"]
    assert spec["template"]["spec"]["expireAfter"] == "Never"


# ---- The first HTC-Grid's list ----


def test_an_entry_of_the_first_htc_grid_is_a_pool() -> None:
    pools = objects("first-htc-grid")["NodePool"]
    assert set(pools) == {"worker-small-spot", "worker-medium-spot"}
    for group in values_of("first-htc-grid")["eks_worker_groups"]:
        each = pools[group["name"]]
        assert requirements(each)["node.kubernetes.io/instance-type"] == group["override_instance_types"]
        assert each["spec"]["limits"]["nodes"] == group["asg_max_size"]


def test_its_on_demand_base_is_one_too() -> None:
    groups = values_of("groups")["eks_worker_groups"]
    pools = render(values_of("cluster") | {"eks_worker_groups": groups})["NodePool"]
    most = {name: each["spec"]["limits"]["nodes"] for name, each in pools.items()}
    assert most == {"mixed-base": 2, "mixed": 3, "certain": 2}
    assert requirements(pools["certain"])["karpenter.sh/capacity-type"] == ["on-demand"]


KEYS = {
    "spot_instance_pools": 2,
    "asg_min_size": 1,
    "asg_desired_capacity": 1,
}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_without_a_counterpart_is_named_in_one_line(key: str) -> None:
    group = {"name": "old", "override_instance_types": ["m5.xlarge"], key: KEYS[key]}
    said = notes(values_of("cluster") | {"eks_worker_groups": [group]})
    [line] = [line for line in said.splitlines() if key in line]
    assert line.startswith(f"old: {key} has no effect")
    assert key not in notes(values_of("cluster") | {"eks_worker_groups": [group | {key: 0}]})


# ---- Managed node groups ----


def test_with_cluster_autoscaler_there_are_commands_and_no_objects() -> None:
    assert objects("groups") == {"NodePool": {}, "EC2NodeClass": {}}
    commands = [shlex.split(each) for each in re.findall(r"sam deploy(?:.*\\\n)+.*", notes(values_of("groups")))]
    given = [dict(word.split("=", 1) for word in command if "=" in word) for command in commands]
    assert [(each["Name"], each["CapacityType"], each["AsgMaxSize"]) for each in given] == [
        ("mixed", "ON_DEMAND", "2"),
        ("mixed", "SPOT", "3"),
        ("certain", "ON_DEMAND", "2"),
    ]
    parameters = GROUP["Parameters"]
    for each in given:
        assert {name for name, parameter in parameters.items() if "Default" not in parameter} <= each.keys()
        for name, value in each.items():
            parameter = parameters[name]
            assert value in parameter.get("AllowedValues", [value])
            if not value.startswith("$"):
                assert re.fullmatch(parameter.get("AllowedPattern", ".*"), value), name


# ---- Wrong values ----


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (pool(instanceTypes=["large"]), "instanceTypes"),
        (pool(capacity="cheap"), "capacity"),
        (pool(onDemandPercent=30), "onDemandPercent"),
        (pool(maxNodes=0), "maxNodes"),
        (pool(expireAfter="a month"), "expireAfter"),
        (pool(terminationGracePeriod="Never"), "terminationGracePeriod"),
        (pool(budgets=[{"nodes": "0", "schedule": "0 8 * * *"}]), "duration"),
        (pool(amiAlias="al2@latest"), "amiAlias"),
        (pool(limits={"nodes": 3}), "nodes"),
        (pool(instance_types=["m5.large"]), "instance_types"),
        (pool(onDemandBase=20), "onDemandBase must be below maxNodes"),
        (pool(onDemandBase=1, onDemandPercent=10), "onDemandBase and onDemandPercent exclude each other"),
        (pool(onDemandBase=1, capacity="spot"), "need the capacity spot-first"),
        (pool(onDemandPercent=50, maxNodes=1), "onDemandPercent needs maxNodes of 2"),
        (pool(instanceTypes=["m5.large"], instanceFamilies=["m5"]), "instanceTypes and instanceFamilies"),
        (pool(minCpus=8, maxCpus=4), "minCpus must not be above maxCpus"),
        (values_of("cluster") | {"pools": [{"name": "a"}, {"name": "a"}]}, "two NodePools of the name a"),
        (values_of("cluster") | {"pools": [{"name": "a", "onDemandBase": 1}, {"name": "a-base"}]}, "name a-base"),
        (values_of("cluster") | {"pools": [{}]}, "name"),
        (values_of("cluster") | {"eks_worker_groups": [{"name": "a"}]}, "override_instance_types"),
        (values_of("cluster") | {"poolDefaults": {"name": "a"}}, "poolDefaults"),
        ({}, "cluster"),
        ({"cluster": {"name": "c"}}, "instanceProfile"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_value_is_refused_by_its_name(values: Object, named: str) -> None:
    with pytest.raises(helm_python.HelmError, match=re.escape(named)):
        render(values)


# ---- What the stack says ----


def test_the_stack_gives_the_values_that_it_alone_knows() -> None:
    given = load("eks/cluster.yaml")["Outputs"]["NodesValues"]["Value"]["Fn::ToJsonString"]
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert given.keys() == {"cluster"}
    assert given["cluster"].keys() == set(schema["properties"]["cluster"]["required"])


def test_every_value_is_explained() -> None:
    lines = (CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"^( {0,2})[a-zA-Z_]+:", line)]
    assert len(keys) > 30
    for number in keys:
        assert lines[number - 1].lstrip().startswith("#"), lines[number]
