"""The user's function as its runtime is told of it: the command, the environment and the facts that Lambda gives."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from htcgrid_agent.errors import BadFunction

_KEPT = ("PATH", "LANG", "LC_ALL")
"""What a worker takes over of the agent's environment: no credentials and no settings of the grid are among it, nor the
agent's home, where they may lie."""
_PYTHON = (sys.executable, "-P", "-m", "htcgrid_agent.runtimes.python_runtime")
"""With `-P` modules are not looked for in the function's folder, so that its own may be named `types` or `logging`."""
_NODE_CLIENT = "aws-lambda-ric"
_JAVA_CLIENT = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda"


class RuntimeKind(StrEnum):
    """Which program speaks the Runtime API for the function."""

    AUTO = "auto"
    """`provided` if the function's directory holds an executable `bootstrap`, `nodejs` if the handler's file is
    JavaScript, `java` if the handler has the form `package.Class::method`, else `python`."""
    PYTHON = "python"
    """The grid's own client around `awslambdaric`, which takes many tasks in one message."""
    PYTHON_LAMBDA = "python-lambda"
    """`awslambdaric` as it is on Lambda, which asks for each task."""
    NODEJS = "nodejs"
    """`aws-lambda-ric`, from the function's folder or the PATH."""
    JAVA = "java"
    """Classes and jars in the function's folder, among them `aws-lambda-java-runtime-interface-client`."""
    PROVIDED = "provided"
    """An executable `bootstrap` in the function's folder: any language."""

    @classmethod
    def _missing_(cls, value: object) -> "RuntimeKind | None":
        # Its name until version 0.1.
        return cls.NODEJS if value == "node" else None

    @property
    def is_python(self) -> bool:
        """Whether the grid's own client runs it, which writes JSON; others may answer any text, as on Lambda."""
        return self in (RuntimeKind.PYTHON, RuntimeKind.PYTHON_LAMBDA)


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
        return self.kind is RuntimeKind.PYTHON

    def command(self, permits: int = -1) -> list[str]:
        """The program that speaks the Runtime API for the function. `permits` is a descriptor that it inherits.

        Raises:
            BadFunction: there is no such program.
        """
        match self.kind:
            case RuntimeKind.PROVIDED:
                bootstrap = self.path / "bootstrap"
                if not os.access(bootstrap, os.X_OK):
                    raise BadFunction(f"The function directory {self.path} has no executable file 'bootstrap'.")
                return [str(bootstrap)]
            case RuntimeKind.NODEJS:
                client = shutil.which(_NODE_CLIENT, path=f"{self.path}/node_modules/.bin{os.pathsep}{_search_path()}")
                if client is None:
                    raise BadFunction(
                        f"The Node.js runtime client {_NODE_CLIENT} is neither on the PATH nor in {self.path}; "
                        f"run: npm install {_NODE_CLIENT}"
                    )
                return [client, self.handler]
            case RuntimeKind.JAVA:
                java = shutil.which("java", path=_search_path())
                if java is None:
                    raise BadFunction("The program java is not on the PATH; install a Java runtime.")
                places = [self.path, self.path / "*", self.path / "lib/*"]
                return [java, "-cp", os.pathsep.join(map(str, places)), _JAVA_CLIENT, self.handler]
            case RuntimeKind.PYTHON_LAMBDA:
                return [*_PYTHON, self.handler]
            case _:
                return [*_PYTHON, self.handler, str(permits)]

    @property
    def folders(self) -> tuple[Path, ...]:
        """What its runtime reads besides what every program of this host does.

        Under each name by which it is found: workers may see no link that leads there.
        """
        python = [Path(path) for path in (sys.prefix, sys.base_prefix, *sys.path) if path]
        installed: list[Path] = []
        if self.kind in (RuntimeKind.NODEJS, RuntimeKind.JAVA):
            programs = [Path(self.command()[0]), *(program.resolve() for program in self.programs)]
            installed = [program.parent.parent for program in programs]
        found = [path for path in map(_absolute, (self.path, *python, *installed)) if path.is_dir()]
        return tuple(dict.fromkeys([*found, *(path.resolve() for path in found)]))

    @property
    def programs(self) -> tuple[Path, ...]:
        """The programs that run it, and each link on the way to their files."""
        return tuple(_absolute(path) for path in (*_links(Path(self.command()[0])), *_links(self._interpreter)))

    @property
    def _interpreter(self) -> Path | None:
        """The program that runs its command, where that is a script."""
        node = shutil.which("node", path=_search_path()) if self.kind is RuntimeKind.NODEJS else None
        return Path(node) if node else None

    def variables(self, runtime_api: str, log_stream: str, temporary: str) -> dict[str, str]:
        """The whole environment of a worker whose Runtime API answers on `runtime_api` (host:port)."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        folders = {"HOME": temporary, "TMPDIR": temporary, "TZ": ":UTC"}
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
            "LAMBDA_RUNTIME_DIR": self._runtime_folder(),
            "_HANDLER": self.handler,
        }
        return {**kept, **folders, **self._search_paths(), **self.environment, **lambdas}

    def _search_paths(self) -> dict[str, str]:
        """Where programs look for libraries and modules, as on Lambda; the function's environment may say otherwise."""
        runtime = self._runtime_folder()
        libraries = [runtime, f"{runtime}/lib", str(self.path), str(self.path / "lib")]
        paths = {"LD_LIBRARY_PATH": os.pathsep.join(libraries)}
        if self.kind.is_python:
            paths["PYTHONPATH"] = runtime
        elif self.kind is RuntimeKind.NODEJS:
            paths["NODE_PATH"] = os.pathsep.join([f"{runtime}/node_modules", runtime, str(self.path)])
        return paths

    def _runtime_folder(self) -> str:
        """Where the runtime's client is installed."""
        if self.kind.is_python:
            spec = importlib.util.find_spec("awslambdaric")
            if spec and spec.origin:
                return str(Path(spec.origin).parent.parent)
        if self.kind is RuntimeKind.NODEJS:
            return str(Path(self.command()[0]).parent.parent.parent)
        return str(self.path)

    @property
    def kind(self) -> RuntimeKind:
        """Which program it is, found out by the files if need be."""
        if self.runtime is not RuntimeKind.AUTO:
            return self.runtime
        if os.access(self.path / "bootstrap", os.X_OK):
            return RuntimeKind.PROVIDED
        file = self.path / self.handler.rpartition(".")[0]
        if any(file.with_name(file.name + suffix).is_file() for suffix in (".js", ".mjs", ".cjs")):
            return RuntimeKind.NODEJS
        return RuntimeKind.JAVA if "::" in self.handler else RuntimeKind.PYTHON


def _links(program: Path | None) -> Iterator[Path]:
    """The program, and each link on the way to its file."""
    while program is not None:
        yield program
        program = Path(os.path.normpath(program.parent / program.readlink())) if program.is_symlink() else None


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _search_path() -> str:
    return os.environ.get("PATH", os.defpath)
