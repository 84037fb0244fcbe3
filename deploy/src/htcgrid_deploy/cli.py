"""The program `htcgrid-deploy`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from htcgrid_deploy.config import GridConfig, read_config
from htcgrid_deploy.errors import DeployError

app = typer.Typer(
    name="htcgrid-deploy",
    help="Bring up the grid that one file describes.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_ConfigFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file, such as generated/grid_config.json.")]


@app.callback()
def _commands() -> None:
    """Bring up the grid that one file describes."""


@app.command()
def check(file: _ConfigFile) -> None:
    """Say whether a file describes a grid, and which partitions that has. Nothing is asked of AWS."""
    config, notices = read_config(file)
    console = Console(highlight=False)
    for notice in notices:
        console.print(escape(notice))
    console.print(f"The grid {escape(config.project_name)} in {config.region}:")
    console.print(_partitions(config))


def _partitions(config: GridConfig) -> Table:
    table = Table("PARTITION", "RUNTIME", "AGENTS", "WORKERS", "STORE", box=None, pad_edge=False)
    table.add_column("FUNCTION", overflow="fold")
    for name, partition in config.all_partitions.items():
        function = config.function_of(name)
        fewest, most = config.agents_of(name)
        what = function.location or function.image or "in the image"
        table.add_row(
            name,
            function.runtime,
            f"{fewest} to {most}",
            str(partition.workers),
            config.storage_of(name),
            escape(what),
        )
    return table


def main() -> None:
    """Run the program. It ends with 0, with 1 when it could not do it, or with 2 on wrong usage or a wrong file."""
    try:
        app()
    except DeployError as error:
        sys.stderr.write(f"htcgrid-deploy: {error}\n")
        sys.exit(error.exit_code)
