"""Channels over which the grid pushes notifications: WebSocket or SNS."""
