"""A worker's Runtime API serves the processes of that worker, and nobody else on the host."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from agent.tests.embedded import until
from agent.tests.harness import Place

from htcgrid_agent.errors import BadSettings
from htcgrid_agent.runtimes import peer
from htcgrid_agent.runtimes.batch_protocol import BATCHES
from htcgrid_agent.runtimes.sandbox import SandboxKind

HOLD = """
import json, os, pathlib, time
note = pathlib.Path(event["told"])
draft = note.with_suffix(".draft")
draft.write_text(json.dumps([os.environ["AWS_LAMBDA_RUNTIME_API"], context.aws_request_id]))
draft.rename(note)
while not pathlib.Path(event["go"]).exists():
    time.sleep(0.01)
result = "its own"
"""
ASK = """
import socket
result = []
for text in event["requests"]:
    with socket.create_connection((event["host"], event["port"]), 60) as connection:
        try:
            connection.sendall(text.encode())
            result.append(connection.recv(1000).decode())
        except ConnectionError:
            result.append("")
"""
SHELL = 'exec 3<>"/dev/tcp/$1/$2" && printf "%s" "$3" >&3 && timeout 60 head -c 1 <&3'


def run(code: str, **more: object) -> dict[str, object]:
    return {"do": "run", "code": code, **more}


@pytest.mark.parametrize("runtime", ["python-lambda"], indirect=True)
@pytest.mark.parametrize("kind", [SandboxKind.NAMESPACES, SandboxKind.FOLDER])
def test_no_other_process_takes_or_answers_a_task(place: Place, tmp_path: Path, kind: SandboxKind) -> None:
    agent = place.agent(sandbox=kind, workers=2)
    note, go = tmp_path / "note", tmp_path / "go"
    held = place.submit([run(HOLD, told=str(note), go=str(go))], max_retries=0)
    until(note.exists)
    api, request_id = json.loads(note.read_text())
    host, _, port = api.partition(":")
    root = "/2018-06-01/runtime/invocation"
    requests = [
        f'POST {root}/{request_id}/response HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n"stolen"',
        f"GET {root}/next HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET {BATCHES.decode()} HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    # The other worker is the only one that is free.
    other = place.submit([run(ASK, requests=requests, host=host, port=int(port))], max_retries=0)
    assert place.results(other) == [["", "", ""]]
    shell = shutil.which("bash")
    assert shell
    for user in ([], ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])[: 1 if os.geteuid() else 2]:
        for text in requests:
            command = [*user, shell, "-c", SHELL, "-", host, port, text]
            assert subprocess.run(command, capture_output=True, timeout=120, check=False).stdout == b""
    go.touch()
    assert place.results(held) == ["its own"]
    assert len([line for line in agent.log_lines if "which does not belong to it" in line["message"]]) == 1


CHILD = """
import socket, subprocess, sys
kind = socket.AF_INET6 if sys.argv[3] == "mapped" else socket.AF_INET
connection = socket.socket(kind)
connection.connect(("::ffff:127.0.0.1" if sys.argv[3] == "mapped" else "127.0.0.1", int(sys.argv[1])))
if sys.argv[2] == "grandchild":
    subprocess.run(["cat"], pass_fds=[connection.fileno()])
else:
    sys.stdin.read()
"""


@pytest.mark.parametrize("netlink", [True, False])
@pytest.mark.parametrize("address", ["plain", "mapped"])
def test_a_socket_is_known_by_who_has_it_open(monkeypatch: pytest.MonkeyPatch, netlink: bool, address: str) -> None:
    if not netlink:

        def closed(theirs: peer.Address, ours: peer.Address) -> tuple[int, int]:
            raise PermissionError

        monkeypatch.setattr(peer, "_ask", closed)
    with socket.create_server(("127.0.0.1", 0)) as server, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as stranger:
        command = [sys.executable, "-c", CHILD, str(server.getsockname()[1]), "grandchild", address]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
            connection, theirs = server.accept()
            found = peer.find(theirs, connection.getsockname())
            assert found
            assert found.user == os.geteuid()
            assert peer.is_in_tree(child.pid, found)
            assert peer.is_in_tree(os.getpid(), found)
            assert not peer.is_in_tree(stranger.pid, found)
            assert found.process is not None
            assert child.stdin
            child.stdin.close()
            child.wait(60)
            # Who has gone is nobody.
            until(lambda: peer.find(theirs, connection.getsockname()) is None)
            connection.close()
        assert stranger.stdin
        stranger.stdin.close()


def test_this_host_tells_who_connects() -> None:
    peer.check_host()


def test_a_host_that_does_not_tell_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "find", lambda theirs, ours: None)
    with pytest.raises(BadSettings, match="HTCGRID_WORKER_DIR"):
        peer.check_host()
