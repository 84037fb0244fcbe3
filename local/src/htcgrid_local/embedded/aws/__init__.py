"""MiniStack as the grid needs it. Runs in MiniStack's own environment, so it imports nothing of the grid.

A module per difference from AWS that the grid would fall into, and `application` to serve it all.
"""
