"""What the agent reports about itself: metrics, probes and JSON logs."""
