"""The embedded AWS: MiniStack, on the loopback and one bridge at most, with IAM enforced, without other listeners."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import boto3.session
import botocore.session
from botocore.config import Config

from htcgrid_local.errors import EmulatorError, PortInUseError
from htcgrid_local.home import Home
from htcgrid_local.keys import REGION, Key
from htcgrid_local.log_excerpts import first_error
from htcgrid_local.private_files import PRIVATE_UMASK
from htcgrid_local.processes import Child, Processes
from htcgrid_local.project import Project

HOST: Final = "127.0.0.1"

_PROGRAM: Final = Path(__file__).parent / "embedded/serve.py"
_READY_WITHIN: Final = timedelta(minutes=1)


class Emulator:
    """One MiniStack process and its address."""

    def __init__(
        self, project: Project, home: Home, processes: Processes, port: int | None, bridge: str | None = None
    ) -> None:
        """Start MiniStack on `port`, or on a free one, of the loopback and of the address `bridge`, if it is given.

        Raises:
            PortInUseError: the port is taken, or `bridge` is no address of this machine.
        """
        # The sockets are bound here and handed over: no other process can take the port in between,
        # and early requests wait in their queues instead of being refused.
        with contextlib.ExitStack() as listeners:
            sockets = [listeners.enter_context(listen(port))]
            self.port: int = sockets[0].getsockname()[1]
            if bridge is not None:
                sockets.append(listeners.enter_context(listen(self.port, bridge)))
            numbers = [listener.fileno() for listener in sockets]
            self._bridge = bridge
            self.key = Key.new()
            self.key.write(home.root_key)
            self._log = home.log("emulator")
            self.child: Child = processes.start(
                "emulator",
                [project.emulator_python, _PROGRAM, *map(str, numbers)],
                environment=_environment(self.port, home, bridge) | self.key.environment(),
                log=self._log,
                folder=home.scratch,
                sockets=numbers,
                umask=PRIVATE_UMASK,
            )

    @property
    def endpoint_url(self) -> str:
        """Where every AWS service of this grid is reached."""
        return f"http://{HOST}:{self.port}"

    @property
    def bridge_url(self) -> str | None:
        """Where containers reach it, if it listens on a bridge."""
        return self._bridge and f"http://{self._bridge}:{self.port}"

    @property
    def ended(self) -> bool:
        """Has MiniStack ended, which it never does unasked unless it failed?"""
        return self.child.exit_code is not None

    def wait_until_ready(self) -> None:
        """Return once MiniStack answers.

        Raises:
            EmulatorError: it ended, or did not answer in time.
        """
        deadline = time.monotonic() + _READY_WITHIN.total_seconds()
        while time.monotonic() < deadline:
            if self.ended:
                raise self.failure()
            try:
                if self._ask("GET", "ready", timedelta(seconds=1))[0] == HTTPStatus.OK:
                    return
            except OSError:
                time.sleep(0.05)
        raise EmulatorError(
            f"The embedded AWS did not answer on {self.endpoint_url} within {_READY_WITHIN.seconds} s; see {self._log}."
        )

    def warm_functions(self) -> dict[str, str]:
        """Start the processes of all functions, and return the errors of those that do not start, by function.

        Raises:
            EmulatorError: MiniStack does not answer.
        """
        try:
            errors: dict[str, str] = json.loads(self._ask("POST", "warm", _READY_WITHIN)[1])
        except OSError as error:
            raise self.failure() from error
        return errors

    def counted(self, what: str) -> dict[str, int]:
        """How often each of the `requests` came, or what would be charged for (`charges`), so far."""
        counts: dict[str, int] = json.loads(self._ask("GET", what, _READY_WITHIN)[1])
        return counts

    def failure(self) -> EmulatorError:
        """The error that says that MiniStack has ended."""
        said = first_error(self._log)
        return EmulatorError(
            f"The embedded AWS ended with exit code {self.child.exit_code}{said and f': {said}'} (see {self._log})."
        )

    def client(self, service: str) -> Any:
        """A boto3 client of `service` with the root key."""
        return client(service, self.endpoint_url, self.key)

    def _ask(self, method: str, what: str, timeout: timedelta) -> tuple[int, bytes]:
        return self.key.ask(method, f"{self.endpoint_url}/_htcgrid/{what}", timeout.total_seconds())


def client(service: str, endpoint_url: str, key: Key) -> Any:
    """A boto3 client with the root key of the embedded AWS, which ignores the AWS settings of the environment."""
    nothing = (None, None, os.devnull, None)
    core = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": nothing,
            "credentials_file": nothing,
        }
    )
    session: Any = boto3.session.Session(
        aws_access_key_id=key.access_key_id,
        aws_secret_access_key=key.secret_access_key,
        region_name=REGION,
        botocore_session=core,
    )
    # botocore would send even this through the proxy that the environment names.
    return session.client(service, endpoint_url=endpoint_url, config=Config(proxies={}))


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment`, in which no proxy stands between programs of this machine, whatever they are written in."""
    names = [environment[name] for name in ("no_proxy", "NO_PROXY") if environment.get(name)]
    excepted = ",".join([*names, HOST, "localhost"])
    return {**environment, "no_proxy": excepted, "NO_PROXY": excepted}


def root_environment(endpoint_url: str, key: Key) -> dict[str, str]:
    """The environment in which a program acts on the embedded AWS with the root key."""
    return key.environment() | {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def inherited_environment() -> dict[str, str]:
    """The few variables that every process of the grid takes over; no AWS settings and no secrets among them."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")
    return {name: os.environ[name] for name in kept if name in os.environ}


def listen(port: int | None, host: str = HOST) -> socket.socket:
    """A listening socket on the loopback or `host`, on a free port unless one is named.

    Raises:
        PortInUseError: the named port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. With Nagle, an answer of a header and a body waits 40 ms for the client's delayed
    # acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port or 0))
    except OSError as error:
        listener.close()
        raise PortInUseError(
            f"Port {port} on {host} cannot be used ({error.strerror}): name another with --port, "
            "or leave it out for a free one."
        ) from error
    listener.listen(100)
    return listener


def _environment(port: int, home: Home, bridge: str | None) -> dict[str, str]:
    return inherited_environment() | {
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": HOST,
        "HTCGRID_BRIDGE": bridge or "",
        "MINISTACK_REGION": REGION,
        "AUTH": "true",
        "LOG_LEVEL": "WARNING",
        "TMPDIR": str(home.scratch),
        "PYTHONUNBUFFERED": "1",
        # Listeners of services that the grid does not use.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        # MiniStack removes the containers of other MiniStacks when it finds a Docker engine.
        "DOCKER_HOST": f"unix://{home.scratch}/no-docker.sock",
    }
