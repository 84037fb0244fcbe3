"""How the command line ends, other than well."""

FAILED = 1
"""The grid says no, or a session or a task did not complete, or a check found a fault."""

WRONG_INPUT = 2
"""What was given is of no use, and nothing was changed."""

INTERRUPTED = 130
"""Ctrl-C, as shells have it; 143 after SIGTERM. Sessions go on."""


class BadInput(Exception):
    """Raised when what a command was given is of no use. Nothing was changed."""
