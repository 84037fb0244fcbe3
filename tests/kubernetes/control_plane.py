"""etcd, API server, controller manager and scheduler, each as a process of its own, and how they are asked."""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes import client, config, dynamic
from kubernetes.client.exceptions import ApiException

from htcgrid.private_files import write_private
from htcgrid_local.private_files import make_private_folder
from htcgrid_local.processes import Processes
from tests.kubernetes.certificates import Authority
from tests.kubernetes.part import Part, answers
from tests.kubernetes.places import API_SERVICE, BUILT, HOST, SERVICE_NETWORK, STATE
from tests.kubernetes.waiting import until

PROGRAM: Final = BUILT / "bin/cluster"
URL: Final = "https://127.0.0.1:443"
_ETCD: Final = "http://127.0.0.1:2379"
_MANAGER: Final = "htcgrid-tests"
_HPA_PERIOD: Final = "3s"
"""In place of 15 s, so that tests of scaling take less time."""
_USERS: Final = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
}
_NODE_USERS: Final = "system:nodes"

Object = Mapping[str, Any]


class Cluster:
    """A Kubernetes without nodes. `start` it once, `stop` it last."""

    def __init__(self, processes: Processes) -> None:
        """Make its keys, certificates and tokens, and the configuration of every user."""
        self.processes = processes
        self.folder = STATE / "cluster"
        make_private_folder(self.folder)
        self.authority = Authority(self.folder / "keys")
        self._tokens: dict[str, tuple[str, str, str]] = {}
        for name, (user, group) in _USERS.items():
            self._add_user(name, user, group)
        self.node_names = ("real",)
        for name in self.node_names:
            self._add_user(name, f"system:node:{name}", _NODE_USERS)
        write_private(self.folder / "tokens.csv", self._token_lines())
        self.kubeconfig = self.kubeconfig_of("admin")
        self.etcd, self.api_server, self.controllers, self.scheduler = self._parts()

    def start(self) -> None:
        """Start its processes, and return once API server, controllers and scheduler work."""
        self.etcd.start()
        self.api_server.start()
        self.api_server.wait()
        for part in (self.controllers, self.scheduler):
            part.start()
        self.api: client.ApiClient = config.new_client_from_config(str(self.kubeconfig))  # type: ignore[no-untyped-call]
        self.core = client.CoreV1Api(self.api)
        self.apps = client.AppsV1Api(self.api)
        self.policy = client.PolicyV1Api(self.api)
        self.autoscaling = client.AutoscalingV2Api(self.api)
        self.custom = client.CustomObjectsApi(self.api)
        self.dynamic = dynamic.DynamicClient(self.api)  # type: ignore[no-untyped-call]
        for part in (self.controllers, self.scheduler):
            part.wait()
        # Pods need it, and a controller makes it.
        until(lambda: self._exists("ServiceAccount", "default", "default"), "the default service account")

    def stop(self) -> None:
        """End its processes. The API server before etcd, without which it hangs."""
        for part in (self.scheduler, self.controllers, self.api_server, self.etcd):
            part.stop()

    def kubeconfig_of(self, name: str) -> Path:
        """The configuration file with which a program is the user `name`, one of those made at the start."""
        path = self.folder / f"{name}.kubeconfig"
        if not path.exists():
            token, *_ = self._tokens[name]
            cluster = {"server": URL, "certificate-authority": str(self.authority.certificate)}
            content = {
                "apiVersion": "v1", "kind": "Config", "current-context": "tests",
                "clusters": [{"name": "tests", "cluster": cluster}],
                "users": [{"name": name, "user": {"token": token}}],
                "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": name}}],
            }  # fmt: skip
            write_private(path, json.dumps(content))
        return path

    def apply(self, objects: str | Path | Object | Iterable[Object], namespace: str | None = None) -> list[Any]:
        """Apply objects on the server: of a YAML text, of a file or of every YAML file below a folder, or as they are.

        Definitions of further kinds are usable afterwards. Raises ApiException for what the server refuses.
        """
        applied = []
        for each in _read(objects):
            metadata = each["metadata"]
            applied.append(
                self.resource(each["apiVersion"], each["kind"]).server_side_apply(
                    body=dict(each),
                    name=metadata["name"],
                    namespace=metadata.get("namespace", namespace),
                    field_manager=_MANAGER,
                    force_conflicts=True,
                )
            )
        for each in applied:
            if each.kind == "CustomResourceDefinition":
                self._wait_until_established(each.metadata.name)
        return applied

    def delete(self, objects: str | Path | Object | Iterable[Object], namespace: str | None = None) -> None:
        """Delete objects as `apply` reads them, the last one first; what is not there is fine."""
        for each in reversed(list(_read(objects))):
            metadata = each["metadata"]
            try:
                self.resource(each["apiVersion"], each["kind"]).delete(
                    name=metadata["name"],
                    namespace=metadata.get("namespace", namespace),
                    body={"propagationPolicy": "Background"},
                )
            except ApiException as error:
                if error.status != 404:
                    raise

    def resource(self, version: str, kind: str) -> Any:
        """The dynamic client of a kind."""
        return self.dynamic.resources.get(api_version=version, kind=kind)

    def pods(self, namespace: str, selector: str = "") -> list[Any]:
        """The pods of a namespace."""
        found: list[Any] = self.core.list_namespaced_pod(namespace, label_selector=selector).items
        return found

    def ready_pods(self, namespace: str, selector: str = "") -> list[Any]:
        """Those of the pods of a namespace that are ready and not about to end."""
        return [pod for pod in self.pods(namespace, selector) if _is_ready(pod) and not pod.metadata.deletion_timestamp]

    def new_namespace(self, name: str, security: str = "restricted") -> str:
        """Make a namespace which enforces a level of Pod Security."""
        labels = {"pod-security.kubernetes.io/enforce": security}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        until(lambda: self._exists("ServiceAccount", "default", name), f"the service account of {name}")
        return name

    def _exists(self, kind: str, name: str, namespace: str) -> bool:
        try:
            self.resource("v1", kind).get(name=name, namespace=namespace)
        except ApiException as error:
            if error.status == 404:
                return False
            raise
        return True

    def _wait_until_established(self, name: str) -> None:
        definitions = client.ApiextensionsV1Api(self.api)

        def established() -> bool:
            status = definitions.read_custom_resource_definition_status(name).status
            conditions = (status and status.conditions) or ()
            return any(each.type == "Established" and each.status == "True" for each in conditions)

        until(established, f"{name} is established")
        self.dynamic.resources.invalidate_cache()

    def _add_user(self, name: str, user: str, group: str) -> None:
        self._tokens[name] = (secrets.token_urlsafe(32), user, group)

    def _token_lines(self) -> str:
        return "".join(f'{token},{user},{name},"{group}"\n' for name, (token, user, group) in self._tokens.items())

    def _parts(self) -> tuple[Part, Part, Part, Part]:
        keys = self.authority
        certificate = keys.certificate
        serving = keys.issue(
            "api-server",
            ("127.0.0.1", "localhost", HOST, API_SERVICE, "kubernetes.default.svc", "kubernetes.default"),
        )
        kubelet_client, front_proxy = keys.issue("kubelet-client"), keys.issue("front-proxy")
        service_accounts = keys.key_pair("service-accounts")
        local = keys.issue("local", ("127.0.0.1",))
        serving_locally = (
            "--bind-address=127.0.0.1", f"--tls-cert-file={local.certificate}", f"--tls-private-key-file={local.key}",
        )  # fmt: skip
        etcd = Part(
            self.processes,
            "etcd",
            [PROGRAM, "etcd", "--data-dir", self.folder / "etcd", "--unsafe-no-fsync", "--log-level", "warn",
             "--listen-client-urls", _ETCD, "--advertise-client-urls", _ETCD],
            answers(f"{_ETCD}/health"),
        )  # fmt: skip
        api_server = Part(
            self.processes,
            "api-server",
            [PROGRAM, "kube-apiserver",
             f"--etcd-servers={_ETCD}", "--bind-address=0.0.0.0", "--secure-port=443", f"--advertise-address={HOST}",
             "--endpoint-reconciler-type=none", f"--service-cluster-ip-range={SERVICE_NETWORK}",
             f"--tls-cert-file={serving.certificate}", f"--tls-private-key-file={serving.key}",
             "--service-account-issuer=https://kubernetes.default.svc",
             f"--service-account-key-file={service_accounts.certificate}",
             f"--service-account-signing-key-file={service_accounts.key}",
             f"--token-auth-file={self.folder / 'tokens.csv'}", "--authorization-mode=Node,RBAC",
             f"--requestheader-client-ca-file={certificate}", "--requestheader-allowed-names=front-proxy",
             "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
             "--requestheader-extra-headers-prefix=X-Remote-Extra-",
             f"--proxy-client-cert-file={front_proxy.certificate}", f"--proxy-client-key-file={front_proxy.key}",
             f"--kubelet-client-certificate={kubelet_client.certificate}",
             f"--kubelet-client-key={kubelet_client.key}", "--kubelet-preferred-address-types=InternalIP"],
            answers(f"{URL}/readyz", certificate),
        )  # fmt: skip
        controllers = Part(
            self.processes,
            "controllers",
            [PROGRAM, "kube-controller-manager", f"--kubeconfig={self.kubeconfig_of('controllers')}",
             *serving_locally, "--use-service-account-credentials", "--leader-elect=false",
             f"--service-account-private-key-file={service_accounts.key}", f"--root-ca-file={certificate}",
             f"--horizontal-pod-autoscaler-sync-period={_HPA_PERIOD}",
             "--controllers=*,-node-ipam-controller,-node-route-controller,-service-lb-controller"],
            answers("https://127.0.0.1:10257/healthz", certificate),
        )  # fmt: skip
        scheduler = Part(
            self.processes,
            "scheduler",
            [PROGRAM, "kube-scheduler", f"--kubeconfig={self.kubeconfig_of('scheduler')}",
             *serving_locally, "--leader-elect=false"],
            answers("https://127.0.0.1:10259/healthz", certificate),
        )  # fmt: skip
        return etcd, api_server, controllers, scheduler


def _is_ready(pod: Any) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or ())


def _read(objects: str | Path | Object | Iterable[Object]) -> Iterator[Object]:
    if isinstance(objects, Path):
        files = sorted(objects.rglob("*.yaml")) if objects.is_dir() else [objects]
        for file in files:
            yield from _read(file.read_text(encoding="utf-8"))
    elif isinstance(objects, str):
        yield from (each for each in yaml.safe_load_all(objects) if each)
    elif isinstance(objects, Mapping):
        yield objects
    else:
        yield from objects
