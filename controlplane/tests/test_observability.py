"""What functions write beside their answers."""

import os
import subprocess
import sys


def test_a_call_that_counts_nothing_writes_no_warning() -> None:
    code = "from htcgrid_controlplane.observability import metrics; metrics.flush_metrics()"
    environment = os.environ | {"POWERTOOLS_METRICS_NAMESPACE": "HTCGrid", "POWERTOOLS_SERVICE_NAME": "htcgrid"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
