"""Where the programs, the files and the addresses of the cluster are."""

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
BUILT: Final = ROOT / ".tools/kubernetes"
"""What `make` compiled, and the definitions that came with it."""
STATE: Final = ROOT / ".htcgrid/kubernetes"
"""Files of the running cluster. Only `logs` outlives it."""
LOGS: Final = STATE / "logs"

BRIDGE: Final = "pods0"
HOST: Final = "10.88.0.1"
"""Under which pods reach what runs beside them; also the real node's address."""
POD_NETWORK: Final = "10.88.0.0/16"
SERVICE_NETWORK: Final = "10.96.0.0/16"
API_SERVICE: Final = "10.96.0.1"
"""Under which programs in pods look for the API server."""

INSIDE: Final = "HTCGRID_KUBERNETES_CGROUP"
"""Set where the cluster may be started, to the control group that its pods belong to."""


def inside() -> bool:
    """Does this process run in namespaces made for a cluster?"""
    return INSIDE in os.environ
