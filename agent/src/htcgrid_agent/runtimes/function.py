"""The user's function as its runtime is told of it: the command, the environment and the facts that Lambda gives."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from htcgrid_agent.errors import BadFunction

_KEPT = ("PATH", "LANG", "LC_ALL")
"""What a worker takes over of the agent's environment: no credentials and no settings of the grid are among it, nor the
agent's home, where they may lie."""
_NODE_CLIENT = "aws-lambda-ric"


class RuntimeKind(StrEnum):
    """Which program speaks the Runtime API for the function."""

    AUTO = "auto"
    """`provided` if the function's directory holds an executable `bootstrap`, `node` if the handler's file is
    JavaScript, else `python`."""
    PYTHON = "python"
    """The grid's own client around `awslambdaric`, which takes many tasks in one message."""
    PYTHON_LAMBDA = "python-lambda"
    """`awslambdaric` as it is on Lambda, which asks for each task."""
    NODE = "node"
    PROVIDED = "provided"


@dataclass(frozen=True)
class Function:
    """What the workers run."""

    path: Path
    handler: str
    name: str
    memory_mb: int
    region: str
    environment: Mapping[str, str]
    runtime: RuntimeKind = RuntimeKind.AUTO

    @property
    def arn(self) -> str:
        """A name in the form of Lambda's; the grid's functions have no account."""
        return f"arn:aws:lambda:{self.region}:000000000000:function:{self.name}"

    @property
    def takes_batches(self) -> bool:
        """Whether its runtime is one that takes many tasks in one message."""
        return self._kind() is RuntimeKind.PYTHON

    def command(self, permits: int = -1) -> list[str]:
        """The program that speaks the Runtime API for the function. `permits` is a descriptor that it inherits.

        Raises:
            BadFunction: there is no such program.
        """
        match self._kind():
            case RuntimeKind.PROVIDED:
                bootstrap = self.path / "bootstrap"
                if not os.access(bootstrap, os.X_OK):
                    raise BadFunction(f"The function directory {self.path} has no executable file 'bootstrap'.")
                return [str(bootstrap)]
            case RuntimeKind.NODE:
                places = os.pathsep.join([str(self.path / "node_modules/.bin"), os.environ.get("PATH", os.defpath)])
                client = shutil.which(_NODE_CLIENT, path=places)
                if client is None:
                    raise BadFunction(
                        f"The Node.js runtime client {_NODE_CLIENT} is neither on the PATH nor in {self.path}; "
                        f"run: npm install {_NODE_CLIENT}"
                    )
                return [client, self.handler]
            case RuntimeKind.PYTHON_LAMBDA:
                return [sys.executable, "-m", "awslambdaric", self.handler]
            case _:
                return [sys.executable, "-m", "htcgrid_agent.runtimes.python_runtime", self.handler, str(permits)]

    @property
    def folders(self) -> tuple[Path, ...]:
        """What its runtime reads besides what every program of this host does."""
        python = [Path(path) for path in (sys.prefix, sys.base_prefix, *sys.path) if path]
        client = [Path(self.command()[0]).parent.parent] if self._kind() is RuntimeKind.NODE else []
        return tuple(path.resolve() for path in (self.path, *python, *client) if path.is_dir())

    def variables(self, runtime_api: str, log_stream: str, temporary: str) -> dict[str, str]:
        """The whole environment of a worker whose Runtime API answers on `runtime_api` (host:port)."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        folders = {"HOME": temporary, "TMPDIR": temporary}
        lambdas = {
            "AWS_LAMBDA_RUNTIME_API": runtime_api,
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_mb),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "LAMBDA_TASK_ROOT": str(self.path),
            "_HANDLER": self.handler,
            "TZ": ":UTC",
        }
        return {**kept, **folders, **self.environment, **lambdas}

    def _kind(self) -> RuntimeKind:
        if self.runtime is not RuntimeKind.AUTO:
            return self.runtime
        if os.access(self.path / "bootstrap", os.X_OK):
            return RuntimeKind.PROVIDED
        file = self.path / self.handler.rpartition(".")[0]
        if any(file.with_name(file.name + suffix).is_file() for suffix in (".js", ".mjs", ".cjs")):
            return RuntimeKind.NODE
        return RuntimeKind.PYTHON
