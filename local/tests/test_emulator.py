"""The embedded AWS itself: real MiniStack processes."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from htcgrid_local.emulator import Emulator, client, listen
from htcgrid_local.errors import EmulatorError, PortInUseError
from htcgrid_local.home import Home
from htcgrid_local.keys import Key
from htcgrid_local.processes import Processes
from htcgrid_local.project import find_project


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("home"))
    home.clear()
    return home


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    processes = Processes(lambda living: None)
    yield processes
    processes.close()


@pytest.fixture(scope="module")
def emulator(home: Home, processes: Processes) -> Emulator:
    emulator = Emulator(find_project(), home, processes, None)
    emulator.wait_until_ready()
    return emulator


def test_it_listens_on_the_loopback_and_nowhere_else(emulator: Emulator) -> None:
    emulator.client("s3").list_buckets()

    family = [psutil.Process(emulator.child.identity.pid)]
    family += family[0].children(recursive=True)
    listening = [
        connection.laddr
        for process in family
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
    ]

    assert listening == [("127.0.0.1", emulator.port)]


def _first_address() -> str:
    """An address of this machine that others reach."""
    found = [each.address for them in psutil.net_if_addrs().values() for each in them if each.family == socket.AF_INET]
    return next(address for address in found if not address.startswith("127."))


def _answer(address: str, port: int, host: str) -> str:
    """What a request without a signature is told."""
    connection = http.client.HTTPConnection(address, port, timeout=60)
    connection.request("GET", "/", headers={"Host": host})
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def test_on_a_bridge_it_answers_to_the_name_of_the_bridge_as_well(
    emulator: Emulator, tmp_path: Path, processes: Processes
) -> None:
    home = Home(tmp_path)
    home.clear()
    address = _first_address()
    bridged = Emulator(find_project(), home, processes, None, address)
    bridged.wait_until_ready()

    assert bridged.bridge_url == f"http://{address}:{bridged.port}"
    bridged.client("s3").list_buckets()
    client("s3", bridged.bridge_url, bridged.key).list_buckets()
    with pytest.raises(ClientError, match=r"InvalidAccessKeyId|UnrecognizedClient"):
        client("s3", bridged.bridge_url, Key.new()).list_buckets()
    foreign = "loopback addresses only"
    assert foreign not in _answer(address, bridged.port, f"{address}:{bridged.port}")
    assert foreign in _answer(address, bridged.port, f"attacker.example:{bridged.port}")
    assert foreign in _answer("127.0.0.1", emulator.port, f"{address}:{emulator.port}")


def test_it_asks_for_a_known_key(emulator: Emulator) -> None:
    stranger = emulator.client("sts")
    stranger._request_signer._credentials.access_key = "AKIASTRANGER00000000"

    with pytest.raises(ClientError):
        stranger.get_caller_identity()


def test_it_is_deaf_to_the_callers_aws_settings(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "a-profile-that-does-not-exist")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

    assert emulator.client("sts").get_caller_identity()["Arn"].endswith(":root")


def test_its_names_for_queues_do_not_need_a_resolver(emulator: Emulator) -> None:
    url = emulator.client("sqs").create_queue(QueueName="queue")["QueueUrl"]

    assert url.startswith(f"http://127.0.0.1:{emulator.port}/")


def test_a_taken_port_is_named_in_one_sentence(home: Home, processes: Processes) -> None:
    with listen(None) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"Port {port} on 127.0.0.1 cannot be used .*--port"):
            Emulator(find_project(), home, processes, port)


def test_an_emulator_that_ends_at_once_is_reported_with_its_own_words(tmp_path: Path, processes: Processes) -> None:
    home = Home(tmp_path)
    home.clear()
    emulator = Emulator(find_project(), home, processes, None)
    emulator.child.process.kill()
    home.log("emulator").write_text("starting\nSomeError: the disk is full\n")

    with pytest.raises(EmulatorError, match="ended with exit code -9: SomeError: the disk is full"):
        emulator.wait_until_ready()


def test_policies_that_ask_for_tls_hold_on_the_loopback(emulator: Emulator) -> None:
    sqs = emulator.client("sqs")
    url = sqs.create_queue(QueueName="tls-only")["QueueUrl"]
    statement = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
    policy = {
        "Version": "2012-10-17",
        "Statement": [statement | {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}],
    }
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    caller = _assumed(emulator, "sqs")

    assert "Messages" not in caller.receive_message(QueueUrl=url)


def _assumed(emulator: Emulator, service: str) -> Any:
    """A client under a role that may do everything: the root key is above resource policies."""
    iam, trust = emulator.client("iam"), {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    role = iam.create_role(RoleName="everything", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
    iam.put_role_policy(
        RoleName="everything", PolicyName="everything", PolicyDocument=json.dumps({"Statement": [everything]})
    )
    keys = emulator.client("sts").assume_role(RoleArn=role["Role"]["Arn"], RoleSessionName="tests")["Credentials"]
    client = emulator.client(service)
    client._request_signer._credentials = Credentials(
        keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]
    )
    return client


def test_it_counts_the_write_units_of_whatever_is_written(emulator: Emulator) -> None:
    dynamodb = emulator.client("dynamodb")
    dynamodb.create_table(
        TableName="counted",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    before = _charges(emulator)
    dynamodb.put_item(TableName="counted", Item={"id": {"S": "a"}, "data": {"S": "x" * 2_000}})
    dynamodb.batch_execute_statement(
        Statements=[{"Statement": "INSERT INTO counted VALUE {'id': ?}", "Parameters": [{"S": "b"}]}]
    )
    # What an item was counts as well as what it becomes.
    dynamodb.update_item(
        TableName="counted",
        Key={"id": {"S": "a"}},
        UpdateExpression="SET #data = :small",
        ExpressionAttributeNames={"#data": "data"},
        ExpressionAttributeValues={":small": {"S": "x"}},
    )
    assert _charges(emulator) - before == 2 + 1 + 2


def _charges(emulator: Emulator) -> int:
    return emulator.counted("charges").get("write units", 0)
