"""What agent and control plane share: the chunk, its states, its store, leases and histories."""
