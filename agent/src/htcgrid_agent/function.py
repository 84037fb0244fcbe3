"""The user's function as its runtime is told of it: the command, the environment and the facts that Lambda gives."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
"""What a worker takes over of the agent's environment: no credentials and no settings of the grid are among it."""


@dataclass(frozen=True)
class Function:
    """What the workers run."""

    path: Path
    handler: str
    name: str
    memory_mb: int
    region: str
    environment: Mapping[str, str]

    @property
    def arn(self) -> str:
        """A name in the form of Lambda's; the grid's functions have no account."""
        return f"arn:aws:lambda:{self.region}:000000000000:function:{self.name}"

    @property
    def command(self) -> list[str]:
        """The program that speaks the Runtime API for the function."""
        return [sys.executable, "-m", "awslambdaric", self.handler]

    def variables(self, runtime_api: str, log_stream: str) -> dict[str, str]:
        """The whole environment of a worker whose Runtime API answers on `runtime_api` (host:port)."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
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
        return {**kept, **self.environment, **lambdas}
