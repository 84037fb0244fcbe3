"""The client that all sessions of a grid share, and one session's link to it."""
