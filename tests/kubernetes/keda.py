"""KEDA: its operator, and the adapter through which the API server asks for what it measures."""

import shutil
from collections.abc import Mapping

from htcgrid_local.private_files import make_private_folder
from tests.kubernetes.control_plane import Cluster
from tests.kubernetes.part import Part, answers
from tests.kubernetes.places import BUILT, STATE
from tests.kubernetes.waiting import until

_NAMESPACE = "keda"
_DEFINITIONS = BUILT / "definitions/keda"
_OPERATOR = "127.0.0.1:9666"
_ADAPTER_PORT = 9443
_METRICS = "v1beta1.external.metrics.k8s.io"


class Keda:
    """`start` it once; its parts may be stopped and started again."""

    def __init__(self, cluster: Cluster, environment: Mapping[str, str]) -> None:
        """`environment` says as whom it asks AWS, and where that is."""
        self._cluster = cluster
        self.operator, self.adapter = self._parts(
            dict(environment)
            | {"POD_NAMESPACE": _NAMESPACE, "KEDA_CLUSTER_OBJECT_NAMESPACE": _NAMESPACE, "WATCH_NAMESPACE": ""}
        )

    def start(self) -> None:
        """Start both, and return once the API server gets external metrics."""
        self._cluster.new_namespace(_NAMESPACE)
        self._cluster.apply(_DEFINITIONS)
        self._cluster.apply(self._api_service())
        self.operator.start()
        self.operator.wait()
        self.adapter.start()
        self.adapter.wait()
        until(self._is_available, f"{_METRICS} is available (see {self.adapter.log})")

    def stop(self) -> None:
        """End both."""
        self.adapter.stop()
        self.operator.stop()

    def _is_available(self) -> bool:
        service = self._cluster.resource("apiregistration.k8s.io/v1", "APIService").get(name=_METRICS)
        conditions = (service.to_dict().get("status") or {}).get("conditions") or ()
        return any(each["type"] == "Available" and each["status"] == "True" for each in conditions)

    def _parts(self, environment: dict[str, str]) -> tuple[Part, Part]:
        keys = self._cluster.authority
        folder = STATE / "keda"
        make_private_folder(folder)
        pair = keys.issue("keda", ("127.0.0.1", "localhost", f"keda-metrics-apiserver.{_NAMESPACE}.svc"))
        for source, name in ((keys.certificate, "ca.crt"), (pair.certificate, "tls.crt"), (pair.key, "tls.key")):
            shutil.copy(source, folder / name)
        kubeconfig = self._cluster.kubeconfig
        operator = Part(
            self._cluster.processes,
            "keda-operator",
            [BUILT / "bin/keda-operator", f"--kubeconfig={kubeconfig}", f"--cert-dir={folder}",
             "--metrics-bind-address=127.0.0.1:9080", "--health-probe-bind-address=127.0.0.1:9081",
             f"--metrics-service-bind-address={_OPERATOR}", "--zap-log-level=info"],
            answers("http://127.0.0.1:9081/readyz"),
            environment,
        )  # fmt: skip
        adapter = Part(
            self._cluster.processes,
            "keda-adapter",
            [BUILT / "bin/keda-adapter", f"--kubeconfig={kubeconfig}", f"--lister-kubeconfig={kubeconfig}",
             f"--authentication-kubeconfig={kubeconfig}", f"--authorization-kubeconfig={kubeconfig}",
             f"--metrics-service-address={_OPERATOR}", f"--secure-port={_ADAPTER_PORT}", "--port=9082",
             f"--cert-dir={folder}", f"--client-ca-file={folder / 'ca.crt'}",
             f"--tls-cert-file={folder / 'tls.crt'}", f"--tls-private-key-file={folder / 'tls.key'}"],
            answers(f"https://127.0.0.1:{_ADAPTER_PORT}/readyz", keys.certificate),
            environment,
        )  # fmt: skip
        return operator, adapter

    def _api_service(self) -> list[dict[str, object]]:
        name = "keda-metrics-apiserver"
        service = {"name": name, "namespace": _NAMESPACE, "port": _ADAPTER_PORT}
        return [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": _NAMESPACE},
                # The adapter runs beside the API server, at an address that no endpoint of a service may have.
                "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": _ADAPTER_PORT}]},
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": _METRICS},
                "spec": {
                    "group": "external.metrics.k8s.io",
                    "version": "v1beta1",
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                    "service": service,
                    "caBundle": self._cluster.authority.base64,
                },
            },
        ]
