"""From the user's tasks to accepted chunks."""
