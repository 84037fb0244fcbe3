"""`htcgrid local`: a whole grid on this machine from the command line."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Final, NoReturn

import typer
from botocore.exceptions import BotoCoreError
from rich.console import Console
from rich.markup import escape

from htcgrid import profiles
from htcgrid.escaping import lines, visible
from htcgrid.profile import Profile
from htcgrid_local import detached, logs
from htcgrid_local.deploying import STACK
from htcgrid_local.emulator import client
from htcgrid_local.errors import LocalGridError, NoGridError
from htcgrid_local.function_logs import save_function_logs
from htcgrid_local.grid import LocalGrid
from htcgrid_local.handler import check_handler
from htcgrid_local.home import Home, default_home
from htcgrid_local.keys import Key
from htcgrid_local.lost_parts import lost_parts
from htcgrid_local.options import MAX_AGENTS, MAX_WORKERS, environment_of
from htcgrid_local.payload_store import S3, check_store
from htcgrid_local.progress import shown
from htcgrid_local.project import find_project
from htcgrid_local.state import Phase, State, read_state

app = typer.Typer(help="Run a whole grid on this machine.", no_args_is_help=True, pretty_exceptions_enable=False)
_EXAMPLE: Final = "examples/portfolio/function"
_console = Console()
_errors = Console(stderr=True)


@app.command()
def up(
    function: Annotated[
        Path | None,
        typer.Option(help="The directory with the function that the agents run.", show_default="the example's"),
    ] = None,
    handler: Annotated[
        str, typer.Option(help="The handler in it: module.function, for Java package.Class::method.")
    ] = "handler.handler",
    runtime: Annotated[
        str,
        typer.Option(help="python, python-lambda, nodejs, java, provided, or auto to tell by the files."),
    ] = "auto",
    agents: Annotated[int, typer.Option(min=0, max=MAX_AGENTS, help="How many agents (processes).")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=MAX_WORKERS, help="How many workers each agent keeps busy.")] = 2,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The embedded AWS's port.", show_default="a free one")
    ] = None,
    store: Annotated[
        str, typer.Option(help="Where large payloads lie: s3, redis, s3+redis to have Redis before S3, or filesystem.")
    ] = S3,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A setting of the agents, as HTCGRID_LEASE_SECONDS=30; repeatable."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when the grid is ready, and leave it running.")
    ] = False,
) -> None:
    """Start a grid and keep it up until Ctrl-C.

    With --detach it stays up until `htcgrid local down`.
    """
    with _errors_shown(), shown(_console) as progress:
        home = _home()
        environment = environment_of(env or [])
        function = function or find_project().root / _EXAMPLE
        if detach:
            check_handler(function, handler, runtime)
            options = ["--function", str(function.resolve()), "--handler", handler, "--runtime", runtime]
            check_store(store)
            options += [
                "--store",
                store,
                "--agents",
                str(agents),
                "--workers",
                str(workers),
                *(["--port", str(port)] if port else []),
            ]
            options += [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
            detached.start(home, options, progress)
            _tell_ready(home)
            return
        _let_signals_interrupt()
        logs.record(home)
        grid = LocalGrid(
            home.root,
            function=function,
            handler=handler,
            runtime=runtime,
            agents=agents,
            workers=workers,
            port=port,
            store=store,
            environment=environment,
            progress=progress,
        )
        ready = False
        try:
            with grid:
                ready = True
                _tell_ready(home)
                _console.print("Press Ctrl-C to stop it.")
                if failure := grid.wait():
                    raise failure
        except _Interrupted as signalled:
            progress.abandon()
            if not ready:
                _errors.print("The start was interrupted; nothing is left running.", highlight=False)
                raise typer.Exit(128 + signalled.number) from signalled
            _console.print("The grid is down.")


@app.command()
def down() -> None:
    """Stop the grid, and whatever a crashed one left behind."""
    with _errors_shown(), _console.status("stopping …"):
        text = detached.stop(_home())
    _console.print(text, highlight=False, soft_wrap=True)


@app.command()
def reload() -> None:
    """Have the agents run the function as it is now.

    Tasks that run are finished first.
    """
    with _errors_shown(), _console.status("reloading …"):
        digest = detached.reload(_home())
    _console.print(f"The agents run version {digest} of the function.", highlight=False)


@app.command()
def status() -> None:
    """Say whether a grid runs; exits with 0 only when one is ready."""
    with _errors_shown():
        home = _home()
        state = read_state(home.state)
    if state is None:
        _console.print(f"No grid runs in {home.root}.", highlight=False, soft_wrap=True)
        raise typer.Exit(1)
    if state.phase is not Phase.FAILED and not state.supervisor.alive:
        killed = f"No grid runs in {home.root}: one was killed, and `htcgrid local down` clears up after it."
        _console.print(killed, highlight=False, soft_wrap=True)
        raise typer.Exit(1)
    lost = _lost(home, state)
    condition = "emptied" if lost else state.phase
    _console.print(
        f"grid      {condition} [dim](process {state.supervisor.pid}, home {home.root})[/dim]", highlight=False
    )
    version = f"version {state.function_digest} of {state.function}" if state.function_digest else ""
    shown_fields = (
        ("step", state.step),
        ("error", lost or state.error),
        ("endpoint", state.endpoint_url),
        ("function", version),
    )
    for label, text in shown_fields:
        if text:
            _console.print(f"{label:<9} {escape(_shown(text))}", highlight=False, soft_wrap=True)
    for child in state.children:
        restarts = f", started again {count} times" if (count := state.restarts.get(child.name)) else ""
        _console.print(f"{child.name:<9} process {child.pid}{restarts}", highlight=False)
    if lost or state.phase is not Phase.READY:
        raise typer.Exit(1)


def _lost(home: Home, state: State) -> str:
    """What the embedded AWS of a grid that is called ready has lost, and what to do; nothing if it has all."""
    if state.phase is not Phase.READY or not state.endpoint_url:
        return ""
    try:
        key = Key.read(home.root_key)
        lost = lost_parts(STACK, lambda service: client(service, str(state.endpoint_url), key))
    except (NoGridError, BotoCoreError) as error:
        return f"The embedded AWS cannot be asked: {error}"
    if not lost:
        return ""
    return f"The embedded AWS has lost {', '.join(lost)}: start anew with `htcgrid local down` and `htcgrid local up`."


@app.command(name="logs")
def show_logs(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="supervisor, emulator, agent, handler, functions, build, deploy.", show_default="all"),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more, until Ctrl-C.")] = False,
) -> None:
    """Show what the grid's processes wrote."""
    with _errors_shown():
        home = _home()
        state = read_state(home.state)
        if state and state.phase is Phase.READY and state.supervisor.alive and state.endpoint_url:
            save_function_logs(home, state.endpoint_url)
        files = logs.select(home, names or [])
        try:
            for line in logs.read(files, follow=follow):
                typer.echo(visible(line, keep="\t"))
        except KeyboardInterrupt:
            return


class _Interrupted(KeyboardInterrupt):
    """A signal to end has come."""

    def __init__(self, number: int) -> None:
        self.number = number


def _home() -> Home:
    home = Home(default_home())
    home.check()
    return home


def _tell_ready(home: Home) -> None:
    state = read_state(home.state)
    if state is None:
        raise NoGridError("The grid went down as soon as it was up; see `htcgrid local logs`.")
    said = [
        f"The grid is ready: {state.endpoint_url}, profile {profiles.LOCAL} ({home.profile})",
        f"For programs of the first HTC-Grid: AGENT_CONFIG_FILE={home.first_grid_configuration}",
    ]
    if Profile.default_path().resolve() != home.profile:
        said.append(
            "It is not the profile that is used when none is named: give --profile local or set HTCGRID_PROFILE=local, "
            "or choose it with `htcgrid config use local`."
        )
    for line in said:
        _console.print(escape(line), highlight=False, soft_wrap=True)


@contextmanager
def _errors_shown() -> Iterator[None]:
    try:
        yield
    except LocalGridError as error:
        _errors.print(f"[red]Error:[/red] {escape(_shown(str(error)))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _shown(text: str) -> str:
    """Text in which a function's trace may be, made harmless line by line."""
    return "\n".join(lines(text))


def _let_signals_interrupt() -> None:
    """Make the first signal to end interrupt the main thread, and further ones leave the clean-up in peace."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)
        raise _Interrupted(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
