"""`htcgrid doctor`: is everything between this machine and the grid as it should be?"""

from typing import TYPE_CHECKING, Annotated

import typer

from htcgrid.cli.exits import FAILED
from htcgrid.cli.output import print_json, print_line
from htcgrid.cli.parameters import JsonOption, ProfileOption

if TYPE_CHECKING:
    from htcgrid.cli.findings import Finding


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("doctor")(examine)


def examine(
    profile: ProfileOption = None,
    *,
    probe: Annotated[
        bool, typer.Option(help="Run one task, with an event that the handler does not know: {'htcgrid_probe': true}.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Check everything between this machine and the grid.

    That is profile, TLS, addresses, credentials, permissions, versions, clocks, the push connection, and whether a
    worker runs a task; where the agent is installed, also how this host would isolate its workers. Says of each fault
    what to do about it, and exits with 1 if there is any.
    """
    from htcgrid.cli.doctor_checks import findings

    faults = 0
    for finding in findings(profile, with_probe=probe):
        faults += not finding.good
        _show(finding, as_json=as_json)
    if faults:
        raise typer.Exit(FAILED)


def _show(finding: "Finding", *, as_json: bool) -> None:
    if as_json:
        print_json(
            {"check": finding.check, "good": finding.good, "found": finding.found, "what_to_do": finding.what_to_do}
        )
        return
    mark = "ok   " if finding.good else "FAULT"
    print_line(f"{mark}  {finding.check}: {finding.found}")
    if finding.what_to_do:
        print_line(f"       → {finding.what_to_do}")
