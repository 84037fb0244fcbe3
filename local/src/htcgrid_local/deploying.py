"""`sam deploy` of the built template onto the embedded AWS."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from htcgrid_local.building import sam_environment
from htcgrid_local.emulator import Emulator, root_environment
from htcgrid_local.errors import DeployError
from htcgrid_local.home import Home
from htcgrid_local.log_excerpts import failure_reason
from htcgrid_local.private_files import PRIVATE_UMASK
from htcgrid_local.processes import Child, Processes
from htcgrid_local.project import Project

STACK: Final = "htcgrid"
"""Name of the stack of every local grid."""
_IN_JSON: Final = {"\\\\": "\\", '\\"': '"', "'": "'"}
"""What JSON writes for characters that `sam deploy` does not leave as they are."""
_ARTIFACTS: Final = "htcgrid-artifacts"


def deploy(
    project: Project,
    home: Home,
    processes: Processes,
    emulator: Emulator,
    template: Path,
    report: Callable[[str], None],
    parameters: Mapping[str, str],
) -> dict[str, str]:
    """Deploy `template` and return the stack's outputs; `report` is called with the number of resources so far, as a
    text. `parameters` are those that depend on the grid's options.

    Raises:
        DeployError: a resource could not be created, or `sam deploy` failed before it came to that.
        EmulatorError: the embedded AWS ended meanwhile.
    """
    # Made here because `sam deploy --resolve-s3` deploys a whole stack for it.
    emulator.client("s3").create_bucket(Bucket=_ARTIFACTS)
    log = home.log("deploy")
    child = processes.start(
        "deploy",
        [project.sam, "deploy", "--config-env", "local", "--config-file", project.root / "samconfig.toml",
         "--template-file", template, "--stack-name", STACK, "--s3-bucket", _ARTIFACTS, "--output", "json",
         "--parameter-overrides", *_parameters(emulator), *(override(*pair) for pair in parameters.items())],
        environment=sam_environment(home) | root_environment(emulator.endpoint_url, emulator.key),
        log=log,
        folder=project.root,
        umask=PRIVATE_UMASK,
    )  # fmt: skip
    reason = ""
    complete = 0
    for event in _events(child, log):
        if emulator.ended:
            raise emulator.failure()
        status = str(event.get("status", ""))
        if event.get("type") == "event" and status.endswith("_FAILED"):
            reason = reason or _describe(event)
        elif event.get("type") == "result" and "error" in event:
            reason = reason or str(event["error"].get("message", ""))
        elif event.get("type") == "event" and status == "CREATE_COMPLETE":
            complete += 1
            report(f"{complete} resources")
    if code := processes.end(child):
        raise DeployError(
            f"The stack could not be deployed: {reason or failure_reason(log) or f'sam ended with exit code {code}'} "
            f"(all of it in {log})."
        )
    stack = emulator.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def _parameters(emulator: Emulator) -> list[str]:
    return [
        f"ExecuteApiBase={emulator.endpoint_url}/_aws/execute-api",
        # MiniStack knows neither EventBridge archives in a template nor X-Ray.
        "EventArchiveDays=0",
        "TracingMode=PassThrough",
        "RetainData=false",
        # MiniStack runs ten functions at once, and would take a reserve for a limit of its own.
        "CompletionsConcurrency=0",
        # Nobody starts agents by these metrics here, and the function would be one more process.
        "ScalingMetrics=false",
        # The agents take their role with a key that may do nothing else, of this account.
        "AgentTrustedPrincipal=arn:aws:iam::000000000000:root",
    ]


def override(name: str, value: str) -> str:
    """A parameter, a word or JSON, as `sam deploy` reads it: it takes a value apart at quotes that are not escaped, and
    undoes escapes in them, so that the texts in JSON must have neither."""
    for escaped, character in _IN_JSON.items():
        value = value.replace(escaped, f"\\u{ord(character):04x}")
    quoted = value.replace('"', '\\"')
    return f'{name}="{quoted}"'


def _describe(event: dict[str, Any]) -> str:
    return f"{event.get('logical_id')} ({event.get('resource_type')}): {event.get('reason') or 'no reason given'}"


def _events(child: Child, log: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines that sam writes, until it ends; its other output stays in the log."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        ended = False
        rest = ""
        while not ended:
            ended = child.exit_code is not None
            rest += lines.read()
            *whole, rest = rest.split("\n")
            for line in whole:
                if line.startswith("{"):
                    yield json.loads(line)
            time.sleep(0 if ended else 0.1)
