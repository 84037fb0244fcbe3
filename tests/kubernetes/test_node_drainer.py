"""The node drainer against a real API server, as the group of its access entry. KWOK plays the kubelets."""

import importlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from botocore.stub import Stubber
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from htcgrid_eks import cluster as eks
from htcgrid_eks.lifecycle import Lifecycle
from htcgrid_eks.node_drain import DrainReport, NodeDrain
from htcgrid_eks.node_drainer import ENDING, NodeDrainer
from tests.kubernetes.certificates import Authority
from tests.kubernetes.control_plane import URL, Cluster
from tests.kubernetes.controllers import DRAINERS, as_group, may, render
from tests.kubernetes.simulated import ANNOTATION, Kwok
from tests.kubernetes.waiting import until

AGENTS = 10
TOKEN = "87654321-4321-4321-4321-210987654321"
LONG = timedelta(minutes=10)
AUTO_SCALING = boto3.client("autoscaling", region_name="eu-central-1", aws_access_key_id="a", aws_secret_access_key="b")
_numbers = itertools.count(1)


class Clock:
    """Time that passes when somebody sleeps, however long the cluster takes to do first what it was told."""

    def __init__(self, settle: Callable[[], None] = lambda: None) -> None:
        self.now = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self._settle = settle

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self._settle()
        self.now += timedelta(seconds=seconds)


class Host:
    """A simulated node with pods of every kind, and a budget for those of a deployment."""

    def __init__(self, cluster: Cluster, kwok: Kwok, namespace: str) -> None:
        number = next(_numbers)
        self.cluster = cluster
        self.namespace = namespace
        self.name = f"doomed-{number}"
        self.instance = f"i-{number:017x}"
        kwok.add_node(self.name)
        labels = {"htcgrid.test/node": self.name}
        provider = f"aws:///eu-central-1a/{self.instance}"
        cluster.core.patch_node(self.name, {"metadata": {"labels": labels}, "spec": {"providerID": provider}})
        self.label = {"app": self.name}
        self.objects: list[dict[str, Any]] = []

    def fill(self, grace: int = 30, most_unavailable: int | str = "50%") -> None:
        agents = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name},
            "spec": {
                "replicas": AGENTS,
                "selector": {"matchLabels": self.label},
                "template": {"metadata": {"labels": self.label}, "spec": self.pod(grace)},
            },
        }
        others = {"app": f"{self.name}-daemon"}
        daemon = {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": f"{self.name}-daemon"},
            "spec": {
                "selector": {"matchLabels": others},
                "template": {"metadata": {"labels": others}, "spec": self.pod(grace)},
            },
        }
        bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{self.name}-bare"}, "spec": self.pod(grace)}
        budget = {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": self.name},
            "spec": {"maxUnavailable": most_unavailable, "selector": {"matchLabels": self.label}},
        }
        self.objects = [budget, agents, daemon, bare]
        self.cluster.apply(self.objects, self.namespace)
        until(lambda: len(self.running()) == AGENTS + 2, f"all pods run on {self.name}")
        until(self._budget_counts, "the budget has counted the pods")

    def clear(self) -> None:
        self.cluster.delete(self.objects, self.namespace)
        self.cluster.core.delete_node(self.name)

    def pod(self, grace: int) -> dict[str, Any]:
        return {
            "terminationGracePeriodSeconds": grace,
            "nodeSelector": {"htcgrid.test/node": self.name},
            "tolerations": [{"key": ANNOTATION, "operator": "Exists"}],
            "containers": [{"name": "agent", "image": "none"}],
        }

    def running(self) -> list[str]:
        pods = self.cluster.ready_pods(self.namespace)
        return [pod.metadata.name for pod in pods if pod.spec.node_name == self.name]

    def settle(self) -> None:
        """Return once no pod is left that was told to end."""
        until(lambda: not self._ending(), f"the pods of {self.name} that were told to end are gone")

    def _ending(self) -> list[str]:
        pods: list[Any] = self.cluster.core.list_pod_for_all_namespaces(
            field_selector=f"spec.nodeName={self.name}"
        ).items
        return [pod.metadata.name for pod in pods if pod.metadata.deletion_timestamp]

    def cordoned(self) -> bool:
        node: Any = self.cluster.core.read_node(self.name)
        return bool(node.spec.unschedulable)

    def _budget_counts(self) -> bool:
        budget: Any = self.cluster.policy.read_namespaced_pod_disruption_budget(self.name, self.namespace)
        return bool(budget.status.expected_pods == budget.status.current_healthy == AGENTS)


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> str:
    name = cluster.new_namespace("drained", security="privileged")
    cluster.apply(render(name, deletionCost={"enabled": False}))
    return name


@pytest.fixture(scope="module")
def core(cluster: Cluster, namespace: str) -> client.CoreV1Api:
    """The client of the drainer's group."""
    return client.CoreV1Api(as_group(cluster, DRAINERS))


@pytest.fixture
def host(cluster: Cluster, kwok: Kwok, namespace: str) -> Iterator[Host]:
    host = Host(cluster, kwok, namespace)
    yield host
    host.clear()


@pytest.fixture
def auto_scaling() -> Iterator[Stubber]:
    with Stubber(AUTO_SCALING) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def termination(instance: str) -> dict[str, Any]:
    detail = {
        "LifecycleActionToken": TOKEN,
        "AutoScalingGroupName": "group",
        "LifecycleHookName": "hook",
        "EC2InstanceId": instance,
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
        "Origin": "AutoScalingGroup",
        "Destination": "EC2",
    }
    return event("aws.autoscaling", "EC2 Instance-terminate Lifecycle Action", datetime.now(UTC), detail)


def interruption(instance: str, at: datetime) -> dict[str, Any]:
    detail = {"instance-id": instance, "instance-action": "terminate"}
    return event("aws.ec2", "EC2 Spot Instance Interruption Warning", at, detail)


def event(source: str, kind: str, at: datetime, detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "0",
        "id": "12345678-1234-1234-1234-123456789012",
        "detail-type": kind,
        "source": source,
        "account": "123456789012",
        "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": "eu-central-1",
        "resources": [],
        "detail": detail,
    }


def expect(auto_scaling: Stubber, instance: str, *, heartbeats: int, completed: bool) -> None:
    action = {
        "AutoScalingGroupName": "group",
        "LifecycleHookName": "hook",
        "InstanceId": instance,
        "LifecycleActionToken": TOKEN,
    }
    for _ in range(heartbeats):
        auto_scaling.add_response("record_lifecycle_action_heartbeat", {}, action)
    if completed:
        auto_scaling.add_response("complete_lifecycle_action", {}, {**action, "LifecycleActionResult": "CONTINUE"})


def drainer(core: client.CoreV1Api, clock: Clock, patience: timedelta = LONG) -> NodeDrainer:
    return NodeDrainer(core, NodeDrain(core, patience, clock, clock.sleep), Lifecycle(AUTO_SCALING), clock)


def handle(drainer: NodeDrainer, event: dict[str, Any], time_left: timedelta = LONG) -> DrainReport:
    report = drainer.handle(ENDING.validate_python(event), time_left)
    assert report is not None
    return report


def test_a_node_is_drained_and_its_group_goes_on(
    host: Host, core: client.CoreV1Api, auto_scaling: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the function's own handler."""
    host.fill(most_unavailable="100%")
    expect(auto_scaling, host.instance, heartbeats=1, completed=True)
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "HTCGrid")
    app = importlib.import_module("functions.node_drainer.app")
    monkeypatch.setattr(app, "drainer", lambda: drainer(core, Clock(host.settle)))
    assert app.handler(termination(host.instance), Context()) == {
        "node": host.name,
        "evicted": AGENTS + 1,
        "deleted": 0,
        "left": (),
    }
    assert host.cordoned()
    assert [name for name in host.running() if "daemon" not in name] == []
    assert len(host.running()) == 1, "what a DaemonSet starts would come again at once"


class Context:
    """What Lambda tells of an invocation."""

    function_name = "node-drainer"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:node-drainer"
    aws_request_id = "52fdfc07-2182-454f-963f-5f0f9a621d72"

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def test_a_budget_is_waited_for_but_not_for_ever(host: Host, core: client.CoreV1Api, auto_scaling: Stubber) -> None:
    """Nothing else can run these pods, so the API server answers 429 however long one asks."""
    host.fill(most_unavailable=1)
    clock = Clock(host.settle)
    began = clock()
    # One comes at the beginning, and one a minute while refused evictions are tried again.
    expect(auto_scaling, host.instance, heartbeats=2, completed=True)
    report = handle(drainer(core, clock, patience=timedelta(seconds=65)), termination(host.instance))
    assert (report.evicted, report.deleted, report.left) == (2, AGENTS - 1, ())
    assert clock() - began > timedelta(seconds=65)


def test_on_a_spot_notice_pods_have_their_grace_before_the_host_is_lost(host: Host, core: client.CoreV1Api) -> None:
    host.fill(grace=45, most_unavailable=1)
    clock = Clock(host.settle)
    began = clock()
    report = handle(drainer(core, clock), interruption(host.instance, began))
    assert (report.evicted, report.deleted, report.left) == (2, AGENTS - 1, ())
    # 75 of 120 s are left for asking; the longest wait between two tries comes on top.
    assert timedelta(seconds=75) <= clock() - began < timedelta(seconds=75 + 20)


def test_pods_whose_grace_is_longer_than_a_notice_are_told_at_once(host: Host, core: client.CoreV1Api) -> None:
    host.fill(grace=3600, most_unavailable=1)
    clock = Clock(host.settle)
    began = clock()
    report = handle(drainer(core, clock), interruption(host.instance, began))
    assert (report.evicted, report.deleted, report.left) == (2, AGENTS - 1, ())
    assert clock() - began < timedelta(seconds=10)


def test_what_still_runs_when_time_is_over_is_reported_and_its_group_waits_on(
    host: Host, core: client.CoreV1Api, kwok: Kwok, auto_scaling: Stubber
) -> None:
    host.fill(most_unavailable="100%")
    # Nobody ends these pods, as if their tasks took longer than the function may.
    kwok.stop()
    expect(auto_scaling, host.instance, heartbeats=1, completed=False)
    try:
        report = handle(drainer(core, Clock()), termination(host.instance), time_left=timedelta(seconds=20))
    finally:
        kwok.start()
    assert (report.evicted, len(report.left), report.untold) == (AGENTS + 1, AGENTS + 1, ())
    # The event comes again: nothing is told twice.
    expect(auto_scaling, host.instance, heartbeats=1, completed=True)
    report = handle(drainer(core, Clock(host.settle)), termination(host.instance))
    assert (report.evicted, report.deleted, report.left) == (0, 0, ())


def test_two_drains_of_a_node_do_not_disturb_each_other(host: Host, core: client.CoreV1Api) -> None:
    """The notice and the group's own event may come at the same time."""
    host.fill(most_unavailable="100%")
    with ThreadPoolExecutor() as threads:
        clocks = [Clock(host.settle), Clock(host.settle)]
        reports = list(
            threads.map(lambda clock: handle(drainer(core, clock), interruption(host.instance, clock())), clocks)
        )
    assert [report.left for report in reports] == [(), ()]
    assert sum(report.deleted for report in reports) == 0


def test_an_instance_that_never_became_a_node_is_let_go(core: client.CoreV1Api, auto_scaling: Stubber) -> None:
    expect(auto_scaling, "i-0fffffffffffffff0", heartbeats=0, completed=True)
    event = ENDING.validate_python(termination("i-0fffffffffffffff0"))
    assert drainer(core, Clock()).handle(event, LONG) is None


def test_a_drain_goes_on_when_the_api_server_was_away(host: Host, core: client.CoreV1Api, cluster: Cluster) -> None:
    host.fill(most_unavailable="100%")
    stopped: list[bool] = []
    clock = Clock(lambda: None if len(stopped) == 1 else host.settle())
    drain = NodeDrain(core, LONG, clock, clock.sleep)

    def stop_once() -> None:
        if not stopped:
            stopped.append(True)
            cluster.api_server.kill()
        elif clock() > datetime(2026, 1, 1, 12, 0, 10, tzinfo=UTC) and len(stopped) == 1:
            stopped.append(True)
            cluster.api_server.start()
            cluster.api_server.wait()

    try:
        report = drain.run(host.name, clock() + LONG, while_waiting=stop_once)
    finally:
        if len(stopped) == 1:
            cluster.api_server.start()
            cluster.api_server.wait()
    assert (report.evicted, report.left) == (AGENTS + 1, ())


def test_the_group_may_drain_and_nothing_else(core: client.CoreV1Api) -> None:
    api = core.api_client
    for verb, resource in (
        ("list", "nodes"), ("patch", "nodes"), ("list", "pods"), ("create", "pods/eviction"), ("delete", "pods"),
    ):  # fmt: skip
        assert may(api, verb, resource), f"{verb} {resource}"
    for verb, resource in (
        ("delete", "nodes"), ("create", "pods"), ("patch", "pods"), ("create", "pods/exec"), ("get", "secrets"),
        ("list", "secrets"), ("impersonate", "users"), ("create", "serviceaccounts/token"),
    ):  # fmt: skip
        assert not may(api, verb, resource), f"{verb} {resource}"


def test_who_is_not_in_the_group_drains_nothing(host: Host, cluster: Cluster) -> None:
    stranger = client.CoreV1Api(as_group(cluster, "htcgrid:somebody-else"))
    with pytest.raises(ApiException, match="Forbidden"):
        handle(drainer(stranger, Clock()), interruption(host.instance, Clock()()))
    assert not host.cordoned()


def test_the_client_shows_a_fresh_token_to_the_cluster_whose_authority_it_knows(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    token: str = cluster.api.configuration.auth_settings()["BearerToken"]["value"].removeprefix("Bearer ")

    def make(session: boto3.Session, name: str) -> str:
        made.append(name)
        return token

    monkeypatch.setattr(eks, "eks_token", make)
    now = [0.0]
    grid = eks.Cluster("grid", URL, cluster.authority.base64)
    core = client.CoreV1Api(eks.connect(grid, boto3.Session(region_name="eu-central-1"), lambda: now[0]))
    core.list_namespace()
    core.list_namespace()
    assert made == ["grid"]
    now[0] = 601.0
    core.list_namespace()
    assert made == ["grid", "grid"]


def test_the_client_refuses_a_cluster_of_another_authority(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eks, "eks_token", lambda session, name: "token")
    # They are for what passes, and would take a quarter of a minute here.
    monkeypatch.setattr(eks, "_RETRIES", False)
    other = Authority(tmp_path / "keys").base64
    core = client.CoreV1Api(eks.connect(eks.Cluster("grid", URL, other), boto3.Session(region_name="eu-central-1")))
    with pytest.raises((ApiException, urllib3.exceptions.HTTPError), match="CERTIFICATE_VERIFY_FAILED"):
        core.list_namespace()
