"""The configuration of the first HTC-Grid: each key that counts, where else it may stand, and how a fault is named."""

import re
from pathlib import Path
from typing import Any

import pytest
from compat.tests.first_grid import config_of
from connector.tests.stub_grid import PASSWORD, USER, StubGrid

from api.configuration import IGNORED_KEYS, USED_KEYS, read_configuration
from api.connector import AWSConnector
from htcgrid import AuthenticationFailed, ProfileInvalid

_PAGE = Path(__file__).parents[2] / "docs/first-htc-grid.md"
_MINIMAL = {
    "region": "eu-west-1",
    "public_api_gateway_url": "https://abc.execute-api.eu-west-1.amazonaws.com",
    "cognito_userpool_client_id": "client",
}


def test_unknown_keys_are_named(stub: StubGrid) -> None:
    with pytest.warns(UserWarning, match="keys that no HTC-Grid knows: colour, publik_api_gateway_url$"):
        AWSConnector().init(config_of(stub, publik_api_gateway_url="x", colour="red"))


def test_the_page_maps_every_key() -> None:
    described = re.findall(r"^\| (`.*?) \|", _PAGE.read_text(), re.MULTILINE)
    keys = {key for cell in described for key in re.findall(r"`(\w+)`", cell)}
    assert keys >= USED_KEYS | IGNORED_KEYS


@pytest.mark.parametrize("key", sorted(_MINIMAL))
@pytest.mark.parametrize("absent", ["", None])
def test_a_missing_key_is_named_and_nothing_else(key: str, absent: str | None) -> None:
    with pytest.raises(ProfileInvalid, match=rf"^the configuration's '{key}' is missing: it is the \w+"):
        read_configuration(_MINIMAL | {key: absent}, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("public_api_gateway_url", "abc.execute-api.eu-west-1.amazonaws.com"),
        ("cognito_userpool_client_id", 7),
        ("region", ["eu-west-1"]),
        ("push_url", "ftp://abc"),
        ("aws_endpoint_url", "localhost:4566"),
        ("username", 7),
        ("password", 7),
    ],
)
def test_an_illegal_value_is_named_by_its_key(key: str, value: Any) -> None:
    with pytest.raises(ProfileInvalid, match=rf"^the configuration's '{key}' is not legal: it is (the|a) \w+"):
        read_configuration(_MINIMAL | {key: value}, {})


def test_what_is_no_configuration_is_one_sentence() -> None:
    with pytest.raises(ProfileInvalid, match="the configuration is a str: give the content of the file"):
        AWSConnector().init("/etc/agent/Agent_config.tfvars.json")  # type: ignore[arg-type]


@pytest.mark.parametrize("absent", ["", None])
def test_an_empty_address_for_pushes_counts_as_absent(stub: StubGrid, absent: str | None) -> None:
    stub.handler = lambda event: event
    connector = AWSConnector()
    connector.init(config_of(stub, push_url=absent), USER, PASSWORD)
    connector.authenticate()
    sent = connector.send([{"worker_arguments": ["1"]}])
    assert connector.get_results(sent, timeout_sec=60)["finished"] == sent["task_ids"]
    assert not stub.connected
    connector.close()


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER"])
@pytest.mark.parametrize("absent", ["", None])
def test_the_endpoint_of_the_environment_is_used(
    stub: StubGrid, monkeypatch: pytest.MonkeyPatch, variable: str, absent: str | None
) -> None:
    monkeypatch.setenv(variable, stub.url)
    connector = AWSConnector()
    connector.init(config_of(stub, aws_endpoint_url=absent), USER, PASSWORD)
    connector.authenticate()
    assert stub.signed_in == 1
    connector.close()


@pytest.mark.parametrize(
    ("config", "environment", "endpoint"),
    [
        ({"aws_endpoint_url": "http://a"}, {"AWS_ENDPOINT_URL": "http://b"}, "http://a"),
        (
            {},
            {"AWS_ENDPOINT_URL": "http://b", "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": "http://c"},
            "http://c",
        ),
        ({}, {"AWS_ENDPOINT_URL": "http://b", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, None),
        ({}, {"AWS_ENDPOINT_URL": ""}, None),
    ],
)
def test_the_most_specific_endpoint_counts(
    config: dict[str, str], environment: dict[str, str], endpoint: str | None
) -> None:
    assert read_configuration(_MINIMAL | config, environment).profile.aws_endpoint_url == endpoint


def test_user_and_password_may_stand_in_the_configuration_or_the_environment() -> None:
    environment = {"USERNAME": "ada", "PASSWORD": "secret"}
    assert read_configuration(_MINIMAL, environment).username == "ada"
    found = read_configuration(_MINIMAL | {"username": "bob", "password": "hidden"}, environment)
    assert (found.username, found.password) == ("bob", "hidden")
    assert "hidden" not in repr(found)


def test_the_configuration_may_be_given_when_the_connector_is_made(stub: StubGrid) -> None:
    connector = AWSConnector(config_of(stub, username=USER, password=PASSWORD))
    connector.authenticate()
    assert stub.signed_in == 1
    connector.close()


@pytest.mark.parametrize(("variable", "beginning"), [("1", "INTRA_VPC is set, but"), ("", "a user and a password")])
def test_without_a_user_a_sentence_says_so(
    stub: StubGrid, monkeypatch: pytest.MonkeyPatch, variable: str, beginning: str
) -> None:
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INTRA_VPC", variable)
    connector = AWSConnector()
    connector.init(config_of(stub))
    with pytest.raises(AuthenticationFailed, match=rf"^{beginning}.*give them to init\(\)"):
        connector.authenticate()
    assert not stub.requests


def test_inside_a_vpc_a_user_signs_in_as_elsewhere(stub: StubGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTRA_VPC", "1")
    connector = AWSConnector()
    connector.init(config_of(stub), USER, PASSWORD)
    connector.authenticate()
    assert stub.signed_in == 1
    connector.close()
