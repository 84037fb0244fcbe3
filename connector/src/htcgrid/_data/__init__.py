"""Data that many tasks share: on its way into the grid, and out of it."""
