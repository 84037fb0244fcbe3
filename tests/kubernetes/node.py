"""A real node: kubelet with containerd, which runs pods as containers of this machine."""

import json
import os
import subprocess
from pathlib import Path
from typing import Final

from htcgrid.private_files import write_private
from htcgrid_local.private_files import make_private_folder
from tests.kubernetes.control_plane import PROGRAM, Cluster
from tests.kubernetes.part import Part
from tests.kubernetes.places import BRIDGE, BUILT, HOST, INSIDE, POD_NETWORK, STATE

NAME: Final = "real"
PAUSE: Final = "htcgrid.test/pause:1"
"""An image that does nothing until it is told to end."""
_SOCKET: Final = "/run/containerd/containerd.sock"
_PLUGINS: Final = "/usr/lib/cni"

_CONTAINERD: Final = """\
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  disable_hugetlb_controller = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


class Node:
    """kubelet and containerd. `start` it once; `stop` it before the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        """Write the configurations of both."""
        self.name = NAME
        self._cluster = cluster
        self._folder = STATE / "node"
        make_private_folder(self._folder)
        self.containerd, self.kubelet = self._containerd(), self._kubelet()

    def start(self) -> None:
        """Start both, and return once the node is ready for pods."""
        self.containerd.start()
        self.containerd.wait()
        self._import_pause()
        self.kubelet.start()
        self.kubelet.wait()

    def stop(self) -> None:
        """End both. What runs in pods goes on until the namespaces of the run end."""
        self.kubelet.stop()
        self.containerd.stop()

    def import_image(self, archive: Path, name: str | None = None) -> None:
        """Give the node an image, from an archive in the form of OCI or Docker; `name` replaces its own."""
        named = ["--index-name", name] if name else []
        self._ctr("images", "import", "--no-unpack", *named, str(archive))

    def images(self) -> list[str]:
        """The names of all images that the node has."""
        return self._ctr("images", "list", "--quiet").split()

    def _ctr(self, *arguments: str) -> str:
        return subprocess.run(
            ["ctr", "--address", _SOCKET, "--namespace", "k8s.io", *arguments],
            check=True, stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip

    def _import_pause(self) -> None:
        build = self._folder / "pause"
        build.mkdir()
        os.link(BUILT / "bin/pause", build / "pause")
        (build / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n')
        archive = self._folder / "pause.tar"
        storage = ["--root", str(self._folder / "buildah"), "--runroot", "/run/buildah", "--storage-driver", "vfs"]
        for command in (
            ["bud", "--isolation", "chroot", "--quiet", "--tag", PAUSE, str(build)],
            ["push", "--quiet", PAUSE, f"docker-archive:{archive}:{PAUSE}"],
        ):
            subprocess.run(["buildah", *storage, *command], check=True, stdout=subprocess.DEVNULL)
        self.import_image(archive)

    def _containerd(self) -> Part:
        network = {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": BRIDGE,
                    "isGateway": True,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": POD_NETWORK, "gateway": HOST}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                        "dataDir": str(self._folder / "addresses"),
                    },
                }
            ],
        }
        make_private_folder(self._folder / "cni")
        write_private(self._folder / "cni/pods.conflist", json.dumps(network))
        configuration = self._folder / "containerd.toml"
        write_private(
            configuration,
            _CONTAINERD.format(folder=self._folder, socket=_SOCKET, pause=PAUSE, plugins=_PLUGINS),
        )

        def answers() -> bool:
            command = ["ctr", "--address", _SOCKET, "version"]
            return subprocess.run(command, check=False, capture_output=True).returncode == 0

        return Part(self._cluster.processes, "containerd", ["containerd", "--config", configuration], answers)

    def _kubelet(self) -> Part:
        resolv = self._folder / "resolv.conf"
        resolv.write_text("")
        nothing = dict.fromkeys(
            ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available"), "0%"
        )
        configuration = self._folder / "kubelet.json"
        content = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": HOST,
            "readOnlyPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(self._cluster.authority.certificate)},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{os.environ[INSIDE]}",
            "failCgroupV1": False,
            "failSwapOn": False,
            # It may not set all of the kernel's values, of which none matters here.
            "featureGates": {"KubeletInUserNamespace": True},
            "resolvConf": str(resolv),
            # The disk and the memory are not the cluster's own.
            "evictionHard": nothing,
            "imageGCHighThresholdPercent": 100,
            "enableControllerAttachDetach": False,
            "volumePluginDir": str(self._folder / "plugins"),
            "podLogsDir": "/var/log/pods",
        }
        write_private(configuration, json.dumps(content))
        return Part(
            self._cluster.processes,
            "kubelet",
            [PROGRAM, "kubelet", f"--config={configuration}", f"--kubeconfig={self._cluster.kubeconfig_of(NAME)}",
             f"--root-dir={self._folder / 'kubelet'}", f"--hostname-override={NAME}", f"--node-ip={HOST}"],
            self._is_ready,
        )  # fmt: skip

    def _is_ready(self) -> bool:
        nodes = self._cluster.core.list_node(field_selector=f"metadata.name={NAME}").items
        conditions = (nodes[0].status and nodes[0].status.conditions) if nodes else ()
        return any(each.type == "Ready" and each.status == "True" for each in conditions or ())
