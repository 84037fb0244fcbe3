"""How workers run user code: the Lambda Runtime API, and processes or sidecar containers behind it."""
