"""The command line. Other parts of the grid add their commands by the entry point group `htcgrid.commands`.

Commands import what they need when they run, so that `htcgrid --help` and completion answer at once.
"""

from htcgrid.cli.application import app, main

__all__ = ["app", "main"]
