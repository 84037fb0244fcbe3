"""Chunks and tasks while the agent holds them, and how an attempt at a chunk concludes: pure values and rules."""
