"""The settings of an agent, read from its environment once when it starts."""

import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import DirectoryPath, Field, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from htcgrid_agent.errors import BadSettings
from htcgrid_agent.resources import usable_memory, usable_processors
from htcgrid_agent.runtimes.function import RuntimeKind
from htcgrid_agent.runtimes.sandbox import SandboxKind
from htcgrid_agent.runtimes.sandbox.command import MOST_WORKERS
from htcgrid_dataplane import StoreMisconfigured
from htcgrid_dataplane.stores import check_store
from htcgrid_events import Priority

_PREFIX = "HTCGRID_"


def _workers() -> int:
    return min(usable_processors(), 256)


def _payload_memory_mb() -> int:
    return max(16, min(usable_memory() // 4 // (1024 * 1024), 1_048_576))


def _agent_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


# Patterns name ASCII only and count nothing: `\w{1,128}` compiles into 13 MB that the agent would keep for good.
class Settings(BaseSettings):
    """Each field is the environment variable `HTCGRID_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore")

    chunks_table: Annotated[str, Field(min_length=1)]
    """Name of the DynamoDB table that holds the chunks."""

    task_queue_urls: Annotated[dict[Priority, str], Field(min_length=1)]
    """The partition's task queues: a JSON object from priority to URL."""

    task_events_queue_url: Annotated[str, Field(min_length=1)]
    """URL of the queue that takes the events of finished chunks."""

    data_bucket: Annotated[str, Field(min_length=1)]
    """Name of the bucket of the data plane."""

    store: str = "s3"
    """Where payloads are put that are too large for rows and messages: `s3`, `redis`, `s3+redis`, `filesystem`, or the
    name of a store that another package has brought. Default: `s3`, the bucket."""

    store_settings: dict[str, str] = {}
    """What the store needs beside the bucket: a JSON object. Default: nothing."""

    former_stores: dict[str, dict[str, str]] = {}
    """Stores in which payloads of before still lie: a JSON object from their names to their settings. Default: none but
    the bucket."""

    data_dir: Path | None = None
    """Folder in which the agents of a node keep shared data, which workers must see under the same path. Default:
    `htcgrid-data-<user>` beside the agent's temporary files; with `worker_dir` none, so that tasks that refer to shared
    data fail."""

    data_mb: Annotated[int, Field(ge=1, le=1_073_741_824)] | None = None
    """Most MB of shared data that the agents of a node keep there. Default: 10240, or 80 % of what the disk allows."""

    partitions_table: str | None = None
    """Name of the DynamoDB table of partitions, which says what to preload. Default: none, nothing is preloaded."""

    partition: Annotated[str, Field(min_length=1, max_length=64)] = "default"
    """The agent's partition, as that table names it. Default: `default`."""

    worker_dir: DirectoryPath | None = None
    """If set, workers are not started here but connect from another container, which shares this folder with the
    agent's (see `worker_entrypoint.sh`). Default: none, the agent starts them."""

    runtime_port: Annotated[int, Field(ge=1_024, le=65_000)] = 9_001
    """With `worker_dir`: the port of the first worker; each other has the next. Default: 9001."""

    function_dir: DirectoryPath | None = None
    """The directory that holds the user's function, as LAMBDA_TASK_ROOT on Lambda. Without `worker_dir` it must be."""

    handler: Annotated[str, StringConstraints(pattern=r"^[^\s]+$")] | None = None
    """The function's handler, for Python `module.function`. Without `worker_dir` it must be, except for `provided`."""

    runtime: RuntimeKind = RuntimeKind.AUTO
    """`python` (in batches), `python-lambda` (Lambda's own client), `nodejs`, `java`, `provided` (an executable
    `bootstrap`), or `auto` to tell by the function's files and the handler's form."""

    agent_id: Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_.-]+$", max_length=128)] = Field(
        default_factory=_agent_id
    )
    """Names this agent as the owner of chunks. Default: host name, process number and random digits."""

    host: Annotated[str, Field(max_length=253)] = Field(default_factory=socket.gethostname)
    """Where the agent runs, as users are told of tasks that failed: the node's name in a pod. Default: host name."""

    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] = Field(default_factory=_workers)
    """How many tasks run at a time. Default: one per processor that this process may use, by its affinity and the CPU
    quota of its container."""

    init_timeout_seconds: Annotated[int, Field(ge=1, le=3_600)] = 120
    """How long a worker started here may take to load the handler, in seconds. Default: 120."""

    worker_memory_mb: Annotated[int, Field(ge=64, le=16_777_216)] | None = None
    """Most memory that a worker started here may take, in MB. Default: none, but for the container's limit."""

    worker_processes: Annotated[int, Field(ge=16, le=1_048_576)] = 1_024
    """How many processes and threads a worker started here may have at once, where it has a user or a user namespace
    of its own. Default: 1024, as on Lambda."""

    sandbox: SandboxKind = SandboxKind.AUTO
    """What each worker started here has of its own: `namespaces` (files and processes), `folder` (a temporary folder),
    or `auto` for as much as the host allows. Default: `auto`."""

    worker_tmp_mb: Annotated[int, Field(ge=16, le=1_048_576)] = 512
    """How much a worker started here may keep in `/tmp` and the other folders of its own, in MB; with `namespaces` it
    counts as memory. Default: 512, as on Lambda."""

    shared_dirs: list[DirectoryPath] = []
    """Folders below `/tmp`, `/var/tmp`, `/dev/shm`, the function's or its runtime's that workers started here see and
    write to as the agent does, all the same ones: a JSON list. Default: none."""

    payload_memory_mb: Annotated[int, Field(ge=16, le=1_048_576)] = Field(default_factory=_payload_memory_mb)
    """How much memory the inputs and results of all chunks in hand may take, in MB; half of it is for inputs. While it
    is full nothing is received. Default: a quarter of the memory that this process may use."""

    hidden_paths: list[Path] = []
    """Files and folders that workers started here must not see, besides those with the agent's credentials: a JSON
    list. The function and `shared_dirs` are seen even in such a folder. Needs `namespaces`. Default: none."""

    prefetch: Annotated[int, Field(ge=0, le=100)] = 1
    """Most chunks per worker that wait in the agent while all workers are busy. Default: 1."""

    lease_seconds: Annotated[int, Field(ge=3, le=3_600)] = 60
    """How long a chunk stays with an agent that is silent, in seconds. Default: 60."""

    grace_seconds: Annotated[float, Field(ge=0, le=43_200)] = 25
    """How long running tasks may go on after SIGTERM, in seconds. Default: 25, within the 30 s of Kubernetes."""

    idle_seconds: Annotated[int, Field(ge=1, le=86_400)] | None = None
    """If set, the agent ends after having had nothing to do for so long, in seconds: what a job does. One that cannot
    work, since it is in quarantine or has no worker, stays. Default: none, it runs until it is stopped."""

    function_name: Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_-]+$", max_length=64)] = "htcgrid-function"
    """The function's name as its handler sees it. Default: `htcgrid-function`."""

    function_memory_mb: Annotated[int, Field(ge=128, le=1_048_576)] = 1_769
    """The function's memory as its handler sees it, in MB. Default: 1769, at which Lambda gives one processor."""

    function_environment: dict[str, str] = {}
    """More environment variables for the function: a JSON object. Default: none."""

    quarantine_after: Annotated[int, Field(ge=1, le=1_000)] = 5
    """After workers have crashed on tasks of so many sessions in a row, nothing is received for a while. Default: 5."""

    watch_spot: bool = False
    """Whether to ask the instance metadata service for notices that a spot instance ends. Default: no."""

    health_host: str = "127.0.0.1"
    """Where `/live`, `/ready` and `/metrics` are answered; `0.0.0.0` in a pod. Default: 127.0.0.1."""

    health_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """The port of these; 0 for any that is free. Default: none, they are not answered."""

    log_level: Annotated[str, StringConstraints(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"
    """`DEBUG`, `INFO`, `WARNING` or `ERROR`. Default: `INFO`."""

    @model_validator(mode="after")
    def _says_what_runs(self) -> "Settings":
        if self.worker_dir is None:
            if self.function_dir is None:
                raise ValueError(f"{_PREFIX}FUNCTION_DIR must be set unless {_PREFIX}WORKER_DIR is")
            if self.handler is None and self.runtime is not RuntimeKind.PROVIDED:
                raise ValueError(f"{_PREFIX}HANDLER must be set unless {_PREFIX}RUNTIME is provided")
        return self

    @model_validator(mode="after")
    def _describes_its_stores(self) -> "Settings":
        for name, settings in self.stores.items():
            where = "STORE, {0}STORE_SETTINGS" if name == self.store else "FORMER_STORES"
            try:
                check_store(name, settings)
            except StoreMisconfigured as error:
                raise ValueError(f"{_PREFIX}{where.format(_PREFIX)}: {error}") from error
        return self

    @property
    def stores(self) -> dict[str, dict[str, str]]:
        """The settings of all stores, by their names."""
        return {**self.former_stores, self.store: self.store_settings}


def data_folder(settings: Settings) -> Path | None:
    """Where the agents of this node keep shared data, if they do."""
    if settings.data_dir is not None:
        return settings.data_dir.resolve()
    if settings.worker_dir is not None:
        # Workers in another container would not see it.
        return None
    return Path(tempfile.gettempdir()) / f"htcgrid-data-{os.geteuid()}"


def load_settings() -> Settings:
    """Read the settings from the environment, and what it does not say from the file that it names.

    The file `HTCGRID_SETTINGS_FILE` has lines of the form `HTCGRID_WORKERS=4`.

    Raises:
        BadSettings: a variable is missing or illegal.
    """
    file = os.environ.get(f"{_PREFIX}SETTINGS_FILE")
    if file is not None and not Path(file).is_file():
        raise BadSettings(f"{_PREFIX}SETTINGS_FILE: there is no file {file}.")
    try:
        return Settings(_env_file=file)
    except ValidationError as error:
        faults = "; ".join(_fault(fault["loc"], fault["msg"]) for fault in error.errors())
        raise BadSettings(f"The environment is not right: {faults}.") from error
    except SettingsError as error:
        # pydantic-settings names the field and not what was wrong with it: these are the fields that hold JSON.
        raise BadSettings(
            f"The environment is not right: {error}. "
            f"{_PREFIX}TASK_QUEUE_URLS, {_PREFIX}STORE_SETTINGS, {_PREFIX}FORMER_STORES and "
            f"{_PREFIX}FUNCTION_ENVIRONMENT must be JSON objects, "
            'for example {"normal": "https://…"}.'
        ) from error


def _fault(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    if not location:
        return message
    field, *inner = (str(part) for part in location)
    return f"{_PREFIX}{field.upper()}" + "".join(f"[{part}]" for part in inner) + f": {message}"
