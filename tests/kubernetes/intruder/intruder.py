"""A function that looks for whatever a function in a pod must not have."""

import json
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Tell what was found. `event` has `credentials`, where these are given."""
    return {
        "user": os.getuid(),
        "groups": sorted({os.getgid(), *os.getgroups()}),
        "processes": _processes(),
        "environment": sorted(os.environ),
        "environments": sorted(_environments()),
        "tokens": _tokens(),
        "written": [folder for folder in ("/", "/var/task", "/opt/htcgrid", "/etc") if _writes(folder)],
        "credentials": _status(event["credentials"]),
        "metadata": _status("http://169.254.169.254/latest/meta-data/"),
        "capabilities": _capabilities(),
        "host": socket.gethostname(),
    }


def _processes() -> dict[str, str]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[folder.name] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return found


def _environments() -> set[str]:
    """Names of the variables of all processes that can be looked into."""
    names = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        names |= {each.partition("=")[0] for each in variables.split("\0") if each}
    return names


def _tokens() -> list[str]:
    """Files that look like tokens or keys."""
    found = []
    for root in ("/var/run/secrets", "/run/secrets", "/run/htcgrid", "/tmp", "/home", "/root"):
        for folder, _, files in os.walk(root):
            for name in files:
                path = Path(folder, name)
                try:
                    text = path.read_text(errors="replace") if path.is_file() else ""
                except OSError:
                    continue
                if text.count(".") == 2 and text.startswith("ey"):
                    found.append(str(path))
    return found + [root for root in ("/var/run/secrets",) if Path(root).exists() and any(Path(root).iterdir())]


def _writes(folder: str) -> bool:
    try:
        Path(folder, "intruder").write_text("was here")
    except OSError:
        return False
    return True


def _status(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:  # noqa: S310
            return json.dumps(answer.read(200).decode(errors="replace"))
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError:
        return "unreachable"


def _capabilities() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines) if name.startswith("Cap")}
