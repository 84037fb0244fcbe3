"""The program that keeps a pod's workers running, as the first process of a container."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import psutil
from agent.tests.embedded import free_ports, until

import htcgrid_agent

ENTRYPOINT = Path(htcgrid_agent.__file__).parent / "runtimes/worker_entrypoint.sh"
USER = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]


def test_a_pod_that_is_told_to_end_while_it_starts_ends(tmp_path: Path) -> None:
    """The kernel drops a signal for which the first process of a container has no handler."""
    for folder in ("bin", "function", "workers"):
        (tmp_path / folder).mkdir()
    (tmp_path / "function/handler.py").touch()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    slow = tmp_path / "bin/sha256sum"
    slow.write_text(f'#!/bin/sh\ntouch {tmp_path}/starts\nread -r _ <{gate}\nexec /usr/bin/sha256sum "$@"\n')
    slow.chmod(0o755)
    environment = {
        "PATH": f"{slow.parent}:{os.environ['PATH']}",
        "HTCGRID_WORKERS": "1",
        "HTCGRID_WORKER_DIR": str(tmp_path / "workers"),
        "HTCGRID_RUNTIME_PORT": "9001",
        "LAMBDA_TASK_ROOT": str(tmp_path / "function"),
    }
    command = ["sh", str(ENTRYPOINT), "sh", "-c", f"touch {tmp_path}/ran; sleep 600"]
    with subprocess.Popen(["unshare", *USER, "--pid", "--fork", "--kill-child", *command], env=environment) as process:
        try:
            until((tmp_path / "starts").exists)
            [first] = psutil.Process(process.pid).children()
            first.send_signal(signal.SIGTERM)
            # It is read by each call, of which there may be more than one.
            with gate.open("w") as opened:
                opened.write("go\n" * 16)
            assert process.wait(timeout=120) == 0
        finally:
            process.kill()
    assert not (tmp_path / "ran").exists()


def test_a_worker_waits_for_its_agent_and_says_so_once(tmp_path: Path) -> None:
    """A runtime without its agent would end at once, again and again, and fill the log with its words."""
    for folder in ("bin", "function", "workers"):
        (tmp_path / folder).mkdir()
    naps = tmp_path / "naps"
    nap = tmp_path / "bin/sleep"
    nap.write_text(f'#!/bin/sh\necho "$@" >>{naps}\nexec /bin/sleep "$@"\n')
    nap.chmod(0o755)
    port = free_ports(1)
    environment = {
        "PATH": f"{nap.parent}:{os.environ['PATH']}",
        "HTCGRID_WORKERS": "1",
        "HTCGRID_WORKER_DIR": str(tmp_path / "workers"),
        "HTCGRID_RUNTIME_PORT": str(port),
        "LAMBDA_TASK_ROOT": str(tmp_path / "function"),
    }
    command = ["sh", str(ENTRYPOINT), "sh", "-c", f"touch {tmp_path}/ran"]
    log = tmp_path / "log"
    with log.open("wb") as words, subprocess.Popen(command, env=environment, stderr=words) as process:
        try:
            until(lambda: naps.exists() and len(naps.read_text().splitlines()) >= 5)
            assert not (tmp_path / "ran").exists()
            assert log.read_text() == f"Worker 0 waits for its agent, which is to listen at port {port}.\n"
            with socket.create_server(("127.0.0.1", port)):
                until((tmp_path / "ran").exists)
            process.terminate()
            assert process.wait(timeout=120) == 0
        finally:
            process.kill()
