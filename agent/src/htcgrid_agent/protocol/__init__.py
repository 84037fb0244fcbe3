"""The agent's side of the task protocol: receive, claim, keep the lease, write the outcome, send the event."""
