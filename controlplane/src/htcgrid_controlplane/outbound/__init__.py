"""What leaves the control plane: bus events, queue messages, pushes, topic messages and workflow calls."""
