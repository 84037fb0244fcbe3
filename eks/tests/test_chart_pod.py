"""What must hold for every pod of the chart, whatever the values."""

from typing import Any

import pytest
from eks.tests.rendering import (
    CASES,
    Object,
    agent_pod,
    containers,
    environment,
    find,
    merged,
    objects,
    pods,
    render,
    values_of,
)

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
}


def volumes(pod: Object) -> dict[str, Object]:
    return {each["name"]: each for each in pod["spec"]["volumes"]}


def mounts(container: Object) -> dict[str, Object]:
    return {each["mountPath"]: each for each in container["volumeMounts"]}


def every_container(case: str) -> list[Object]:
    return [each for pod in pods(objects(case)) for each in containers(pod).values()]


# --- what PodSecurity "restricted" asks for, and more ---


@pytest.mark.parametrize("case", CASES)
def test_containers_have_no_rights_and_write_nowhere_but_in_volumes(case: str) -> None:
    for each in every_container(case):
        security = each["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["privileged"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "/tmp" in mounts(each) or each["name"] == "copy-entrypoint"


@pytest.mark.parametrize("case", CASES)
def test_pods_share_nothing_with_their_host_and_get_no_token(case: str) -> None:
    for pod in pods(objects(case)):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not spec.get("hostNetwork")
        assert not spec.get("hostPID")
        assert not spec.get("shareProcessNamespace")
        kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
        # A volume of the node is not "restricted": it is there for who asks for it.
        of_values = {"hostPath", "persistentVolumeClaim"} if case == "shared" else set()
        assert kinds <= {"emptyDir", "projected", "secret"} | of_values
    for account in (each for each in objects(case) if each["kind"] == "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("case", CASES)
def test_what_a_pod_takes_is_bounded(case: str) -> None:
    for pod in pods(objects(case)):
        for each in containers(pod).values():
            resources = each["resources"]
            assert resources["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in resources["limits"]
        for volume in pod["spec"]["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]


# --- the worker runs what users wrote ---


@pytest.mark.parametrize("case", CASES)
def test_workers_get_no_credentials(case: str) -> None:
    pod = agent_pod(objects(case))
    worker = containers(pod)["worker"]
    assert not environment(worker).keys() & CREDENTIALS
    assert all(isinstance(value, str) for value in environment(worker).values())
    assert "envFrom" not in worker
    shared = [volumes(pod)[each["name"]] for each in worker["volumeMounts"] if each["name"] != "data"]
    assert all("emptyDir" in each for each in shared)


@pytest.mark.parametrize("case", CASES)
def test_the_webhook_of_eks_leaves_every_container_alone(case: str) -> None:
    pod = agent_pod(objects(case))
    left_alone = pod["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"].split(",")
    assert containers(pod).keys() <= set(left_alone)


@pytest.mark.parametrize("case", CASES)
def test_the_agent_signs_in_as_the_values_say(case: str) -> None:
    pod = agent_pod(objects(case))
    known = containers(pod)
    for each in [known["agent"], *([known["fetch-function"]] if "fetch-function" in known else [])]:
        variables = environment(each)
        if case == "elsewhere":
            assert variables["AWS_ACCESS_KEY_ID"]["secretKeyRef"]["name"] == "grid-keys"
            assert variables["AWS_SESSION_TOKEN"]["secretKeyRef"]["optional"] is True
            assert not CREDENTIALS & {"AWS_CONTAINER_CREDENTIALS_FULL_URI"} & variables.keys()
        else:
            folder, _, file = variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"].rpartition("/")
            mount = mounts(each)[folder]
            assert mount["readOnly"] is True
            (token,) = volumes(pod)[mount["name"]]["projected"]["sources"]
            assert token["serviceAccountToken"]["audience"] == "pods.eks.amazonaws.com"
            assert token["serviceAccountToken"]["path"] == file


@pytest.mark.parametrize("case", CASES)
def test_agent_and_worker_share_the_pipes_and_shared_data_and_nothing_else(case: str) -> None:
    known = containers(agent_pod(objects(case)))
    agent, worker = known["agent"], known["worker"]
    common = {each["name"] for each in agent["volumeMounts"]} & {each["name"] for each in worker["volumeMounts"]}
    assert common == {"workers", "data"}
    assert agent["securityContext"]["runAsUser"] != worker["securityContext"]["runAsUser"]
    variables = environment(agent), environment(worker)
    for name in ("HTCGRID_WORKER_DIR", "HTCGRID_WORKERS", "HTCGRID_RUNTIME_PORT"):
        assert variables[0][name] == variables[1][name]
    for each in variables:
        assert each["HTCGRID_WORKER_DIR"] in {"/run/htcgrid/workers"}


@pytest.mark.parametrize("case", CASES)
def test_workers_read_shared_data_where_the_agent_writes_it(case: str) -> None:
    known = containers(agent_pod(objects(case)))
    folder = environment(known["agent"])["HTCGRID_DATA_DIR"]
    assert mounts(known["agent"])[folder] == {"name": "data", "mountPath": folder}
    assert mounts(known["worker"])[folder] == {"name": "data", "mountPath": folder, "readOnly": True}
    # What is not for them there belongs to the agent's user alone.
    assert known["agent"]["securityContext"]["runAsUser"] != known["worker"]["securityContext"]["runAsUser"]


def test_shared_data_is_bounded_or_kept_in_a_folder_of_the_node_that_is_there() -> None:
    own = volumes(agent_pod(objects("grid")))["data"]
    assert own["emptyDir"] == {"sizeLimit": "5120Mi"}
    assert environment(containers(agent_pod(objects("grid")))["agent"])["HTCGRID_DATA_MB"] == "4096"
    assert volumes(agent_pod(objects("shared")))["data"]["hostPath"] == {
        "path": "/var/lib/htcgrid-data",
        "type": "Directory",
    }


def test_the_agent_alone_sees_the_file_system_of_payloads() -> None:
    pod = agent_pod(objects("shared"))
    assert volumes(pod)["payloads"]["persistentVolumeClaim"] == {"claimName": "risk-payloads"}
    see = {name for name, each in containers(pod).items() if "payloads" in str(each["volumeMounts"])}
    assert see == {"agent"}
    assert mounts(containers(pod)["agent"])["/mnt/payloads"] == {"name": "payloads", "mountPath": "/mnt/payloads"}
    assert "payloads" not in volumes(agent_pod(objects("grid")))


@pytest.mark.parametrize("case", CASES)
def test_the_worker_outlives_the_agent_and_sees_code_it_cannot_change(case: str) -> None:
    pod = agent_pod(objects(case))
    first = [each["name"] for each in pod["spec"]["initContainers"]]
    worker = containers(pod)["worker"]
    assert first[-1] == "worker", "what it needs must be there before it starts"
    assert worker["restartPolicy"] == "Always"
    assert pod["spec"].get("restartPolicy") == ("Never" if case == "long-tasks" else None)
    for path, mount in mounts(worker).items():
        assert mount.get("readOnly", False) == (path not in {"/tmp", "/run/htcgrid/workers"})


# --- what the values mean ---


def rendered_with(**values: Any) -> Object:
    return agent_pod(render(merged(values_of("grid"), values)))


@pytest.mark.parametrize("seconds", [1, 300, 3600])
def test_a_pod_that_must_go_waits_for_its_longest_task_and_then_writes(seconds: int) -> None:
    pod = rendered_with(longestTaskSeconds=seconds)
    grace = int(environment(containers(pod)["agent"])["HTCGRID_GRACE_SECONDS"])
    assert grace >= seconds
    assert pod["spec"]["terminationGracePeriodSeconds"] == grace + 30


def test_karpenter_does_not_move_pods_with_long_tasks() -> None:
    name = "karpenter.sh/do-not-disrupt"
    assert name not in rendered_with(longestTaskSeconds=899)["metadata"]["annotations"]
    assert rendered_with(longestTaskSeconds=900)["metadata"]["annotations"][name] == "true"
    assert agent_pod(objects("long-tasks"))["metadata"]["annotations"][name] == "true"


def test_memory_is_what_is_asked_for_and_processors_are_not_limited() -> None:
    resources = containers(rendered_with())["worker"]["resources"]
    assert resources == {"requests": {"cpu": "1000m", "memory": "2048Mi"}, "limits": {"memory": "2048Mi"}}
    assert containers(rendered_with())["agent"]["resources"]["limits"] == {"memory": "512Mi"}


def test_the_sizes_of_the_first_htc_grid_are_honoured() -> None:
    known = containers(agent_pod(objects("zip")))
    assert known["worker"]["resources"] == {
        "requests": {"cpu": "800m", "memory": "1200Mi"},
        "limits": {"cpu": "900m", "memory": "1900Mi"},
    }
    assert environment(known["worker"])["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "1900"
    assert "--location=s3://main-lambda-unit-htc-grid-2b8838c8eecc/lambda.zip" in known["fetch-function"]["args"]


def test_a_gpu_is_asked_for_and_given() -> None:
    resources = containers(agent_pod(objects("long-tasks")))["worker"]["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == 1


def test_images_of_ours_start_themselves_and_others_by_the_entrypoint() -> None:
    ours = containers(rendered_with(function={"handler": "pricing.handler"}))["worker"]
    assert "command" not in ours
    assert ours["args"] == ["pricing.handler"]
    assert "args" not in containers(rendered_with())["worker"]

    known = containers(agent_pod(objects("foreign-image")))
    assert known["worker"]["command"] == ["/bin/sh", known["copy-entrypoint"]["command"][-1]]
    assert known["worker"]["args"] == ["/lambda-entrypoint.sh", "index.handler"]


def test_places_share_the_memory() -> None:
    known = containers(agent_pod(objects("foreign-image")))
    assert environment(known["agent"])["HTCGRID_WORKERS"] == "4"
    assert environment(known["agent"])["HTCGRID_FUNCTION_MEMORY_MB"] == "1769"


def test_probes_ask_the_agent() -> None:
    agent = containers(rendered_with())["agent"]
    (port,) = agent["ports"]
    assert environment(agent)["HTCGRID_HEALTH_PORT"] == str(port["containerPort"])
    assert {agent[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")} == {"/live"}
    assert agent["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "health"}
    annotations = rendered_with()["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == "8080"
    assert not any("prometheus" in name for name in agent_pod(objects("fixed"))["metadata"]["annotations"])


def test_rows_name_the_pod_and_errors_the_node() -> None:
    variables = environment(containers(rendered_with())["agent"])
    assert variables["HTCGRID_AGENT_ID"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert variables["HTCGRID_HOST"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}


# --- where pods run, and who may move them ---


@pytest.mark.parametrize(
    ("spot", "rule", "karpenter", "group"),
    [
        ("prefer", "preferredDuringSchedulingIgnoredDuringExecution", "spot", "SPOT"),
        ("require", "requiredDuringSchedulingIgnoredDuringExecution", "spot", "SPOT"),
        ("avoid", "requiredDuringSchedulingIgnoredDuringExecution", "on-demand", "ON_DEMAND"),
    ],
)
def test_spot_holds_for_nodes_of_karpenter_and_for_node_groups(
    spot: str, rule: str, karpenter: str, group: str
) -> None:
    (affinity,) = rendered_with(scheduling={"spot": spot})["spec"]["affinity"].values()
    (terms,) = (affinity[rule]["nodeSelectorTerms"] if spot != "prefer" else affinity[rule],)
    expressions = [each.get("preference", each)["matchExpressions"][0] for each in terms]
    assert [(each["key"], each["values"]) for each in expressions] == [
        ("karpenter.sh/capacity-type", [karpenter]),
        ("eks.amazonaws.com/capacityType", [group]),
    ], "one term each: a node has one of the two labels"


def test_any_node_will_do_if_the_values_say_so() -> None:
    assert "affinity" not in rendered_with(scheduling={"spot": "any"})["spec"]


def test_pods_are_spread_over_zones() -> None:
    pod = rendered_with()
    (spread,) = pod["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "topology.kubernetes.io/zone"
    assert spread["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_a_budget_never_keeps_a_node_because_of_sick_agents() -> None:
    budget = find(objects("grid"), "PodDisruptionBudget")["spec"]
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert budget["maxUnavailable"] == "50%"
    assert budget["selector"]["matchLabels"].items() <= agent_pod(objects("grid"))["metadata"]["labels"].items()


def test_agents_have_the_priority_of_their_release() -> None:
    for case, name in (("grid", "htcgrid-pool"), ("ipv6", "urgent")):
        made = find(objects(case), "PriorityClass")
        assert made["metadata"]["name"] == name == agent_pod(objects(case))["spec"]["priorityClassName"]
        assert made["preemptionPolicy"] == "Never"
    assert "priorityClassName" not in agent_pod(objects("elsewhere"))["spec"]


def test_agents_run_as_the_service_account_of_the_values() -> None:
    assert agent_pod(objects("grid"))["spec"]["serviceAccountName"] == "pool"
    assert find(objects("grid"), "ServiceAccount")["metadata"]["name"] == "pool"
    assert agent_pod(objects("elsewhere"))["spec"]["serviceAccountName"] == "agents"


# --- the network ---


def reached(case: str) -> set[tuple[str, int]]:
    policy = find(objects(case), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["podSelector"]["matchLabels"].items() <= agent_pod(objects(case))["metadata"]["labels"].items()
    return {
        (each["ipBlock"]["cidr"] if "ipBlock" in each else "the cluster's DNS", port["port"])
        for rule in policy["egress"]
        for each in rule["to"]
        for port in rule["ports"]
    }


def test_pods_reach_dns_and_aws_and_nothing_else() -> None:
    assert reached("grid") == {("the cluster's DNS", 53), ("0.0.0.0/0", 443), ("169.254.170.23/32", 80)}


def test_instance_metadata_is_closed_unless_spot_notices_are_asked_for() -> None:
    assert not any("169.254.169.254" in network for network, _ in reached("grid"))
    (aws,) = (
        each["ipBlock"]
        for rule in find(objects("grid"), "NetworkPolicy")["spec"]["egress"]
        for each in rule["to"]
        if each.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
    )
    assert aws["except"] == ["169.254.0.0/16"]
    assert ("fd00:ec2::254/128", 80) in reached("ipv6")
    assert environment(containers(agent_pod(objects("grid")))["agent"])["HTCGRID_WATCH_SPOT"] == "false"
    assert environment(containers(agent_pod(objects("ipv6")))["agent"])["HTCGRID_WATCH_SPOT"] == "true"


def test_networks_of_the_values_are_opened() -> None:
    assert reached("elsewhere") == {("the cluster's DNS", 53), ("0.0.0.0/0", 443), ("10.88.0.1/32", 4566)}
    assert reached("ipv6") == {
        ("the cluster's DNS", 53),
        ("fd00::a/128", 53),
        ("2600:1f14::/36", 443),
        ("2600:1fa0::/36", 443),
        ("fd00:ec2::23/128", 80),
        ("fd00:ec2::254/128", 80),
        ("2001:db8::/64", 6379),
    }


def test_only_who_asks_for_health_and_metrics_gets_in() -> None:
    for case, namespaces in (("grid", []), ("long-tasks", ["monitoring"])):
        (rule,) = find(objects(case), "NetworkPolicy")["spec"]["ingress"]
        assert rule["ports"] == [{"port": 8080, "protocol": "TCP"}]
        controller, *others = rule["from"]
        assert controller == {
            "podSelector": {
                "matchLabels": {
                    "app.kubernetes.io/name": "htcgrid-controllers",
                    "app.kubernetes.io/component": "deletion-cost",
                }
            }
        }
        assert [
            each["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for each in others
        ] == namespaces
