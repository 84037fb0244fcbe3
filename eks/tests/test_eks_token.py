"""The token is a signed request that STS accepts, from the cluster that it names alone."""

import base64
import json
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest
from botocore.exceptions import NoCredentialsError

from htcgrid_eks.eks_token import eks_token

_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}


def signed_url(token: str) -> str:
    prefix, _, rest = token.rpartition(".")
    assert prefix == "k8s-aws-v1"
    assert not set(rest) & set("=+/"), "it is base64url without padding"
    return base64.urlsafe_b64decode(rest + "=" * (-len(rest) % 4)).decode()


@pytest.mark.grid
def test_sts_takes_the_token_of_a_role_and_only_with_the_name_of_its_cluster(
    embedded_environment: dict[str, str],
) -> None:
    root = boto3.Session(embedded_environment["AWS_ACCESS_KEY_ID"], embedded_environment["AWS_SECRET_ACCESS_KEY"])
    url = embedded_environment["AWS_ENDPOINT_URL"]
    region = embedded_environment["AWS_DEFAULT_REGION"]
    iam = root.client("iam", endpoint_url=url, region_name=region)
    role = iam.create_role(RoleName="node-drainer", AssumeRolePolicyDocument=json.dumps(_TRUST))["Role"]["Arn"]
    sts = root.client("sts", endpoint_url=url, region_name=region)
    given = sts.assume_role(RoleArn=role, RoleSessionName="drain")["Credentials"]
    session = boto3.Session(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], region)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        signed = signed_url(eks_token(session, "grid"))
    answer = httpx.get(signed, headers={"x-k8s-aws-id": "grid"})
    assert answer.status_code == httpx.codes.OK
    assert "assumed-role/node-drainer/drain" in answer.text
    assert httpx.get(signed, headers={"x-k8s-aws-id": "another"}).status_code == httpx.codes.FORBIDDEN
    assert httpx.get(signed).status_code == httpx.codes.FORBIDDEN


def test_a_token_asks_the_sts_of_its_region() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        url = urlsplit(
            signed_url(eks_token(boto3.Session("AKIDEXAMPLE", "secret", region_name="eu-central-1"), "grid"))
        )
    query = parse_qs(url.query)
    assert (url.scheme, url.netloc) == ("https", "sts.eu-central-1.amazonaws.com")
    assert query["Action"] == ["GetCallerIdentity"]
    assert query["X-Amz-SignedHeaders"] == ["host;x-k8s-aws-id"]
    assert "eu-central-1/sts" in query["X-Amz-Credential"][0]


def test_without_credentials_there_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boto3.Session, "get_credentials", lambda self: None)
    with pytest.raises(NoCredentialsError):
        eks_token(boto3.Session(region_name="eu-central-1"), "grid")
