"""Who is busy, as the agents say."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from htcgrid_eks.deletion_cost.agents import Agents
from htcgrid_eks.objects import Pod

ANSWERS = {
    "127.0.0.2": (200, b"3\n"),
    "127.0.0.3": (200, b"0\n"),
    "127.0.0.4": (503, b"1\n"),
    "127.0.0.5": (200, b"something else"),
}
"""By the address of the pod. At any other nobody listens."""


@pytest.fixture
def port() -> Iterator[int]:
    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = self.connection.getsockname()[0]
            if self.path != "/busy" or address not in ANSWERS:
                self.connection.close()
                return
            status, text = ANSWERS[address]
            self.send_response_only(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    with ThreadingHTTPServer(("0.0.0.0", 0), Agent) as server:  # noqa: S104 - at the addresses of all pods
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def pod(address: str) -> Pod:
    return Pod.model_validate(
        {"metadata": {"name": address, "uid": address}, "spec": {}, "status": {"phase": "Running", "podIP": address}}
    )


def test_only_a_number_that_an_agent_answers_says_whether_it_is_busy(port: int) -> None:
    agents = Agents(port)
    found = agents.busy([pod(address) for address in (*ANSWERS, "127.0.0.6")])
    assert found == {"127.0.0.2": True, "127.0.0.3": False}
    agents.close()


def test_agents_at_addresses_of_ip_version_6_are_asked_too() -> None:
    agents = Agents(1)
    assert agents.busy([pod("::1")]) == {}, "nobody listens there"
    agents.close()
