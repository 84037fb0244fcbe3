"""The first process within the namespaces: makes a network and folders of their own, then runs the command.

It also takes in orphans, of which each pod leaves one, and its end is that of all processes here.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.kubernetes.places import API_SERVICE, BRIDGE, HOST, POD_NETWORK

_OWN = ("/run", "/var/log", "/var/lib/cni")
"""Folders with fixed names in which containerd, runc and kubelet keep what must not mix with the machine's own."""


def main(command: Sequence[str]) -> int:
    """Run `command` and return its exit code."""
    for folder in _OWN:
        Path(folder).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "htcgrid", folder], check=True)
    for arguments in (
        ["link", "set", "lo", "up"],
        # There is no kube-proxy: the API server listens everywhere, so this address is all that its service needs.
        ["address", "add", f"{API_SERVICE}/32", "dev", "lo"],
        ["link", "add", BRIDGE, "type", "bridge"],
        ["address", "add", f"{HOST}/{POD_NETWORK.partition('/')[2]}", "dev", BRIDGE],
        ["link", "set", BRIDGE, "up"],
    ):
        subprocess.run(["ip", *arguments], check=True)
    child = subprocess.Popen(command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        ended, status = os.wait()
        if ended == child.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    sys.exit(main(sys.argv[1:]))
