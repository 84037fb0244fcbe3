"""How the command line ends when it does not end well."""

FAILED = 1
"""The grid refuses, a session or task did not complete, a check found a fault, or the output cannot be written."""

WRONG_INPUT = 2
"""The command was used wrongly or given wrong input. Nothing was changed, and what was already sent of a stream of
tasks was cancelled."""

INTERRUPTED = 130
"""Ctrl-C, as shells have it; 143 after SIGTERM. Sessions go on."""


class BadInput(Exception):
    """Raised when a command cannot use what it was given. Its message says what was cancelled, if anything was."""


class OutputFailed(Exception):
    """Raised when what a command prints or writes cannot be written."""
