"""What a cluster needs on this machine. `python -m tests.kubernetes.tools` says what is missing."""

import os
import shutil
import sys
from pathlib import Path

from tests.second_opinion.tools import Tool

_OLDEST_GO = (1, 26)
_PLUGIN = Path("/usr/lib/cni/bridge")
_COMMANDS = {
    "containerd": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "unshare": "util-linux",
}
"""Programs and the Debian packages that have them."""


def missing() -> list[str]:
    """Everything that is not here, each as a sentence would name it."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    go = Tool("Go", ("go", "version"), _OLDEST_GO).missing
    packages = sorted({package for command, package in _COMMANDS.items() if shutil.which(command) is None})
    if not _PLUGIN.exists():
        packages.append("containernetworking-plugins")
    root = [] if os.geteuid() == 0 else ["to run as root"]
    return root + ([go] if go else []) + [f"Debian's {package}" for package in packages]


def main() -> int:
    """Give 0 if everything is here."""
    if lacking := missing():
        sys.stderr.write(f"No cluster can be started, because it needs {', '.join(lacking)}.\n")
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
