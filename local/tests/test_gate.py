"""What reaches the embedded AWS from a web page, from another user of the machine, and from who has its key."""

from __future__ import annotations

import base64
import gzip
import http.client
import io
import json
import os
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import httpx
import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from htcgrid_local.emulator import Emulator, client
from htcgrid_local.keys import REGION, Key
from htcgrid_local.project import find_project

_LIST_TABLES = "DynamoDB_20120810.ListTables"
_NOBODY = 65534


@pytest.fixture(scope="module")
def emulator(embedded_aws: Emulator) -> Emulator:
    return embedded_aws


@pytest.fixture(scope="module")
def pool(emulator: Emulator) -> Any:
    """A user pool as the template describes it, with a user."""
    cognito = emulator.client("cognito-idp")
    pool = cognito.create_user_pool(
        PoolName="pool",
        AdminCreateUserConfig={"AllowAdminCreateUserOnly": True},
        Schema=[{"Name": "tenant", "AttributeDataType": "String", "Mutable": False}],
    )["UserPool"]["Id"]
    app = cognito.create_user_pool_client(
        UserPoolId=pool, ClientName="app", ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
    )["UserPoolClient"]["ClientId"]
    cognito.admin_create_user(UserPoolId=pool, Username="user", MessageAction="SUPPRESS", TemporaryPassword=_PASSWORD)
    cognito.admin_set_user_password(UserPoolId=pool, Username="user", Password=_PASSWORD, Permanent=True)
    return pool, app


_PASSWORD = "A-password-of-14-characters-1"


def _send(
    emulator: Emulator, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> http.client.HTTPResponse:
    """Send a request as it is given, with the true host unless `headers` has another."""
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=60)
    given = {"Host": f"127.0.0.1:{emulator.port}", **(headers or {})}
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    length = {} if "Transfer-Encoding" in given else {"Content-Length": str(len(body))}
    for name, value in {**length, **given}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    # What has become a WebSocket has no end.
    response.body = b"" if response.status == http.HTTPStatus.SWITCHING_PROTOCOLS else response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


def _signed(
    emulator: Emulator, service: str, headers: Mapping[str, str], body: bytes, key: Key | None = None, path: str = "/"
) -> dict[str, str]:
    key = key or emulator.key
    url = f"{emulator.endpoint_url}{path}"
    request = AWSRequest("POST", url, dict(headers), body)
    credentials = Credentials(key.access_key_id, key.secret_access_key)
    auth.SigV4Auth(credentials, service, REGION).add_auth(request)
    return dict(request.headers.items())


def _code(response: http.client.HTTPResponse) -> str:
    return str(json.loads(response.body)["__type"])  # type: ignore[attr-defined]


def _tables(emulator: Emulator) -> list[str]:
    names: list[str] = emulator.client("dynamodb").list_tables()["TableNames"]
    return names


_CREATE_TABLE = {
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}


def _create_table(name: str) -> tuple[dict[str, str], bytes]:
    headers = {"X-Amz-Target": "DynamoDB_20120810.CreateTable", "Content-Type": "application/x-amz-json-1.0"}
    return headers, json.dumps({**_CREATE_TABLE, "TableName": name}).encode()


# --- pages in a browser ---


def test_a_page_of_another_origin_is_refused_although_it_is_signed(emulator: Emulator) -> None:
    headers, body = _create_table("of-a-page")
    response = _send(
        emulator,
        "POST",
        "/",
        {**_signed(emulator, "dynamodb", headers, body), "Origin": "https://attacker.example"},
        body,
    )

    assert response.status == 403
    assert "other origins" in json.loads(response.body)["message"]  # type: ignore[attr-defined]
    assert "of-a-page" not in _tables(emulator)


def test_a_name_that_was_bound_to_the_loopback_is_refused(emulator: Emulator) -> None:
    headers, body = _create_table("rebound")
    for host in (
        f"attacker.example:{emulator.port}",
        f"127.0.0.1.attacker.example:{emulator.port}",
        "s3.amazonaws.com",
        "[::1%bucket.s3.amazonaws.com]",
    ):
        response = _send(emulator, "POST", "/", {**_signed(emulator, "dynamodb", headers, body), "Host": host}, body)
        assert response.status == 403
        assert "loopback addresses only" in json.loads(response.body)["message"]  # type: ignore[attr-defined]
    assert "rebound" not in _tables(emulator)


@pytest.mark.parametrize("path", ["/", "/bucket/key", "/_aws/execute-api/api/stage/sessions"])
def test_no_preflight_is_allowed(emulator: Emulator, path: str) -> None:
    asked = {"Origin": "https://attacker.example", "Access-Control-Request-Method": "PUT"}
    for headers in (asked, {"Access-Control-Request-Method": "PUT"}):
        response = _send(emulator, "OPTIONS", path, headers)
        assert response.status == 403
        assert [name for name in response.headers if name.lower().startswith("access-control-")] == []


def test_no_answer_may_be_read_by_pages(emulator: Emulator) -> None:
    signed = _signed(emulator, "dynamodb", {"X-Amz-Target": _LIST_TABLES}, b"{}")
    for response in (_send(emulator, "POST", "/", signed, b"{}"), _send(emulator, "GET", "/_aws/execute-api/a/b/c")):
        assert [name for name in response.headers if name.lower().startswith("access-control-")] == []


def test_a_page_opens_no_websocket(emulator: Emulator) -> None:
    apis = emulator.client("apigatewayv2")
    api = apis.create_api(Name="push", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")[
        "ApiId"
    ]
    apis.create_stage(ApiId=api, StageName="stage")
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    of_page: dict[str, str]
    for of_page in ({"Origin": "https://attacker.example"}, {"Host": "attacker.example"}):
        assert _send(emulator, "GET", f"/_aws/execute-api/{api}/stage", upgrade | of_page).status == 403
    assert _send(emulator, "GET", f"/_aws/execute-api/{api}/stage", upgrade).status == 101


def test_a_page_that_names_no_origin_is_refused(emulator: Emulator) -> None:
    signed = _signed(emulator, "dynamodb", {"X-Amz-Target": _LIST_TABLES}, b"{}")
    for site in ("cross-site", "same-site"):
        assert _send(emulator, "POST", "/", signed | {"Sec-Fetch-Site": site}, b"{}").status == 403
        assert _send(emulator, "GET", "/_aws/execute-api/a/b/c", {"Sec-Fetch-Site": site}).status == 403
    assert _send(emulator, "POST", "/", signed | {"Sec-Fetch-Site": "none"}, b"{}").status == 200


# --- who has no key ---


def test_no_stranger_fills_its_memory(emulator: Emulator, pool: tuple[str, str]) -> None:
    sign_in = {"X-Amz-Target": "AWSCognitoIdentityProviderService.InitiateAuth"}
    asked = {
        "ClientId": pool[1],
        "AuthFlow": "USER_PASSWORD_AUTH",
        "AuthParameters": {"USERNAME": "a", "PASSWORD": "b"},
    }
    packed = gzip.compress(json.dumps(asked).encode().ljust(1_000_000))
    # Unpacked, it would be refused for its password.
    assert _send(emulator, "POST", "/", sign_in | {"Content-Encoding": "gzip"}, packed).status == 415
    for path, headers in (("/", sign_in), ("/_aws/execute-api/a/b/c", {})):
        assert _send(emulator, "POST", path, headers, bytes(10 * 1024 * 1024 + 1)).status == 413
        chunked = {"Transfer-Encoding": "chunked"}
        part = b"%x\r\n%s\r\n" % (1 << 20, bytes(1 << 20))
        assert _send(emulator, "POST", path, headers | chunked, part * 11 + b"0\r\n\r\n").status == 413
        assert _send(emulator, "POST", path, headers, bytes(10 * 1024 * 1024)).status in (400, 404)


@pytest.mark.parametrize("path", ["", "x", "/x", "/x/y", "x/", "/"])
def test_no_service_is_reached_by_a_path_that_looks_like_that_of_an_api(emulator: Emulator, path: str) -> None:
    forged = (
        f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/dynamodb/aws4_request, SignedHeaders=host, Signature=00"
    )
    for keys in ({"Authorization": forged}, {"Authorization": "AWS 123456789012:x"}, {}):
        asked = {"X-Amz-Target": _LIST_TABLES, "Content-Type": "application/x-amz-json-1.0", **keys}
        response = _send(emulator, "POST", f"/_aws/execute-api/{path}", asked, b"{}")
        assert response.status in (400, 403)
        assert b"TableNames" not in response.body  # type: ignore[attr-defined]
    response = _send(emulator, "GET", f"/_aws/execute-api/{path}?Action=DescribeStacks&AWSAccessKeyId=123456789012")
    assert response.status in (400, 403)


@pytest.mark.parametrize("slashes", ["", "/", "//"])
def test_connections_are_for_the_grid_alone(emulator: Emulator, slashes: str) -> None:
    path = f"/_aws/execute-api/a1b2c3d4/stage/{slashes}@connections/abc="
    for method in ("POST", "GET", "DELETE"):
        assert _send(emulator, method, path).status == 403


def test_nobody_answers_a_challenge_that_was_not_posed(emulator: Emulator) -> None:
    body = {
        "ClientId": "any",
        "ChallengeName": "NEW_PASSWORD_REQUIRED",
        "Session": "x",
        "ChallengeResponses": {"USERNAME": "local", "NEW_PASSWORD": "MalMalMalMal-123a"},
    }
    target = "AWSCognitoIdentityProviderService.RespondToAuthChallenge"
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
    response = _send(emulator, "POST", "/", headers, json.dumps(body).encode())
    assert response.status == 403 or _code(response) == "MissingAuthenticationTokenException"


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.py", "def b(event, context): return event")
    return file.getvalue()


def test_an_unsigned_request_creates_no_function(emulator: Emulator) -> None:
    iam, functions = emulator.client("iam"), emulator.client("lambda")
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.create_role(RoleName="of-functions", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
    function = {
        "FunctionName": "intruder",
        "Runtime": "python3.13",
        "Role": "arn:aws:iam::000000000000:role/of-functions",
        "Handler": "a.b",
        "Code": {"ZipFile": base64.b64encode(_zip()).decode()},
    }
    path, headers, body = "/2015-03-31/functions", {"Content-Type": "application/json"}, json.dumps(function).encode()
    keys = [Key(name, "test") for name in ("test", "000000000000", "AKIASTRANGER00000000")]
    for signed in (headers, *(_signed(emulator, "lambda", headers, body, key, path) for key in keys)):
        assert _send(emulator, "POST", path, signed, body).status in (400, 403)
    assert "intruder" not in [known["FunctionName"] for known in functions.list_functions()["Functions"]]
    # With the key the same request is good.
    assert _send(emulator, "POST", path, _signed(emulator, "lambda", headers, body, path=path), body).status == 201
    functions.delete_function(FunctionName="intruder")


def test_refusals_have_the_form_of_the_service(emulator: Emulator) -> None:
    stranger = Key("AKIASTRANGER00000000", "secret")
    codes = {}
    calls: dict[str, Callable[[Any], object]] = {
        "dynamodb": lambda client: client.list_tables(),
        "sqs": lambda client: client.list_queues(),
        "iam": lambda client: client.list_users(),
        "s3": lambda client: client.list_buckets(),
        "lambda": lambda client: client.list_functions(),
    }
    for service, call in calls.items():
        with pytest.raises(ClientError) as caught:
            call(client(service, emulator.endpoint_url, stranger))
        codes[service] = caught.value.response["Error"]["Code"]
    assert codes == {
        "dynamodb": "UnrecognizedClientException",
        "sqs": "InvalidClientTokenId",
        "iam": "InvalidClientTokenId",
        "s3": "InvalidAccessKeyId",
        "lambda": "UnrecognizedClientException",
    }


def test_a_wrong_signature_changes_nothing(emulator: Emulator) -> None:
    headers, body = _create_table("forged")
    signed = _signed(emulator, "dynamodb", headers, body, Key(emulator.key.access_key_id, "guessed"))
    other_body = _signed(emulator, "dynamodb", headers, b"{}")
    other_target = _signed(emulator, "dynamodb", {**headers, "X-Amz-Target": _LIST_TABLES}, body) | {
        "X-Amz-Target": headers["X-Amz-Target"]
    }
    unsigned_target = _signed(emulator, "dynamodb", {"Content-Type": headers["Content-Type"]}, body) | headers
    two_keys = _signed(emulator, "dynamodb", headers, body)
    two_keys["Authorization"] += ", Credential=AKIASTRANGER00000000/20260101/us-east-1/dynamodb/aws4_request"
    for given in (signed, other_body, other_target, unsigned_target, two_keys):
        response = _send(emulator, "POST", "/", given, body)
        assert response.status in (400, 403)
        assert "Signature" in _code(response)
    assert "forged" not in _tables(emulator)


def test_an_old_request_is_not_taken_again(emulator: Emulator) -> None:
    headers, body = _create_table("replayed")
    then = datetime.now(UTC) - timedelta(minutes=16)
    with mock.patch.object(auth, "get_current_datetime", return_value=then):
        signed = _signed(emulator, "dynamodb", headers, body)

    response = _send(emulator, "POST", "/", signed, body)

    assert response.status == 400
    assert "expired" in response.body.decode()  # type: ignore[attr-defined]
    assert "replayed" not in _tables(emulator)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/_ministack/reset"),
        ("POST", "/_ministack/config"),
        ("GET", "/_ministack/health"),
        ("GET", "/_localstack/health"),
        ("GET", "/health"),
        ("GET", "/_aws/sqs/messages"),
        ("GET", "/_aws/ses"),
    ],
)
def test_the_administration_is_closed_to_everybody(emulator: Emulator, method: str, path: str) -> None:
    before = _tables(emulator)
    signed = _signed(emulator, "dynamodb", {}, b"", path=path) if method == "POST" else {}
    for headers in ({}, signed):
        response = _send(emulator, method, path, headers)
        assert response.status == 403
        assert b"services" not in response.body  # type: ignore[attr-defined]
    assert _tables(emulator) == before


def test_what_the_grid_adds_is_for_the_root_key_alone(emulator: Emulator) -> None:
    iam = emulator.client("iam")
    iam.create_user(UserName="other")
    made = iam.create_access_key(UserName="other")["AccessKey"]
    other = Key(made["AccessKeyId"], made["SecretAccessKey"])
    for path in ("warm", "requests", "charges", "ready"):
        assert _send(emulator, "GET", f"/_htcgrid/{path}").status == 403
        assert other.ask("GET", f"{emulator.endpoint_url}/_htcgrid/{path}", 60)[0] == 403
    assert "DynamoDB ListTables" in emulator.counted("requests") or _tables(emulator) == []


# --- who has one ---


def test_a_signed_url_needs_no_key_and_opens_one_object(emulator: Emulator) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=emulator.endpoint_url,
        region_name=REGION,
        aws_access_key_id=emulator.key.access_key_id,
        aws_secret_access_key=emulator.key.secret_access_key,
        config=Config(signature_version="s3v4"),
    )
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="own", Body=b"own")
    put = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "a b/ü"}, 60)
    get = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a b/ü"}, 60)

    assert httpx.put(put, content=b"content").status_code == 200
    assert httpx.get(get).content == b"content"
    assert httpx.get(get.replace("a%20b", "own").replace("/%C3%BC", "")).status_code == 403
    assert httpx.put(put, content=b"", headers={"x-amz-copy-source": f"/{bucket}/own"}).status_code == 403
    assert httpx.get(get).content == b"content"
    then = datetime.now(UTC) - timedelta(minutes=2)
    with mock.patch.object(auth, "get_current_datetime", return_value=then):
        old = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "own"}, 60)
    assert httpx.get(old).status_code == 403


def test_credentials_of_functions_cannot_be_guessed(emulator: Emulator) -> None:
    """MiniStack makes them of the names of function and role."""
    source = find_project().emulator_python
    program = """
import ministack.app
from ministack.core import lambda_runtime
from aws import function_credentials
ministack.app.AUTH = True
config = {"FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f", "FunctionName": "f", "Role": "role/r"}
guess = lambda_runtime.execution_credentials(config)
function_credentials.make_random()
given = lambda_runtime.execution_credentials(config)
print(given == lambda_runtime.execution_credentials(config), [given[name] == guess[name] for name in sorted(given)])
"""
    folder = Path(sys.modules[Emulator.__module__].__file__ or "").parent / "embedded"
    run = subprocess.run(
        [source, "-c", program], env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "True [False, False, False]"


# --- requests without end ---


@pytest.mark.parametrize("kind", ["request", "websocket"])
@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        (f"?ticket={'a' * 20_000}", {}, 414),
        (f"/{'a' * 20_000}", {}, 414),
        ("", {"x-long": "a" * 20_000}, 431),
        ("", {f"x-{number}": "a" for number in range(200)}, 431),
        (f"?ticket={'a' * 2_000}", {"x-long": "a" * 2_000}, None),
    ],
    ids=["query", "path", "header", "headers", "none of it"],
)
def test_an_api_answers_to_what_is_too_long(
    emulator: Emulator, kind: str, address: str, headers: dict[str, str], status: int | None
) -> None:
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    asked = {**headers, **(upgrade if kind == "websocket" else {})}
    response = _send(emulator, "GET", f"/_aws/execute-api/absent/stage{address}", asked)
    assert response.status == (status or (403 if kind == "websocket" else 404))


# --- another user of the machine ---


def test_another_user_cannot_read_a_key(tmp_path: Path) -> None:
    key, path = Key.new(), tmp_path / "root.aws"
    previous = os.umask(0)
    try:
        key.write(path)
    finally:
        os.umask(previous)

    assert Key.read(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    if os.geteuid() == 0:
        # The folders of tests are closed, too: what is asked here is whether the file itself is.
        with path.open() as file:
            read = subprocess.run(
                ["setpriv", f"--reuid={_NOBODY}", "--clear-groups", "cat", f"/proc/{os.getpid()}/fd/{file.fileno()}"],
                capture_output=True,
                text=True,
                check=False,
            )
        assert read.returncode != 0
        assert "Permission denied" in read.stderr


# --- the user pool ---


def test_users_sign_in_and_read_themselves_without_a_key(emulator: Emulator, pool: Any) -> None:
    cognito = emulator.client("cognito-idp")
    tokens = _sign_in(cognito, pool)
    assert cognito.get_user(AccessToken=tokens["AccessToken"])["Username"] == "user"


def test_nobody_signs_up_himself(emulator: Emulator, pool: Any) -> None:
    cognito = emulator.client("cognito-idp")
    with pytest.raises(cognito.exceptions.NotAuthorizedException, match="SignUp is not permitted for this user pool"):
        cognito.sign_up(ClientId=pool[1], Username="intruder", Password=_PASSWORD)
    with pytest.raises(ClientError):
        cognito.forgot_password(ClientId=pool[1], Username="user")
    with pytest.raises(ClientError):
        # MiniStack's code is always the same.
        cognito.confirm_forgot_password(
            ClientId=pool[1], Username="user", ConfirmationCode="123456", Password="Another-password-14-1"
        )
    assert [user["Username"] for user in cognito.list_users(UserPoolId=pool[0])["Users"]] == ["user"]
    assert _sign_in(cognito, pool)


@pytest.mark.parametrize("name", ["sub", "custom:tenant", "custom:absent"])
def test_users_do_not_change_who_they_are(emulator: Emulator, pool: Any, name: str) -> None:
    cognito = emulator.client("cognito-idp")
    token = _sign_in(cognito, pool)["AccessToken"]
    before = cognito.get_user(AccessToken=token)["UserAttributes"]
    change = [{"Name": name, "Value": "somebody-else"}]
    with pytest.raises(cognito.exceptions.InvalidParameterException):
        cognito.update_user_attributes(AccessToken=token, UserAttributes=change)
    with pytest.raises(cognito.exceptions.InvalidParameterException):
        cognito.admin_update_user_attributes(UserPoolId=pool[0], Username="user", UserAttributes=change)
    assert cognito.get_user(AccessToken=token)["UserAttributes"] == before


def test_users_may_change_what_is_theirs(emulator: Emulator, pool: Any) -> None:
    cognito = emulator.client("cognito-idp")
    token = _sign_in(cognito, pool)["AccessToken"]
    cognito.update_user_attributes(AccessToken=token, UserAttributes=[{"Name": "nickname", "Value": "nick"}])
    assert {"Name": "nickname", "Value": "nick"} in cognito.get_user(AccessToken=token)["UserAttributes"]


def _sign_in(cognito: Any, pool: Any) -> Any:
    return cognito.initiate_auth(
        ClientId=pool[1], AuthFlow="USER_PASSWORD_AUTH", AuthParameters={"USERNAME": "user", "PASSWORD": _PASSWORD}
    )["AuthenticationResult"]
