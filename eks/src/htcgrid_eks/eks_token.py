"""The token by which an IAM identity is known to the API server of an EKS cluster."""

import base64
from typing import Final

import boto3
from botocore.exceptions import NoCredentialsError
from botocore.signers import RequestSigner

_PREFIX: Final = "k8s-aws-v1."
_CLUSTER_HEADER: Final = "x-k8s-aws-id"
"""Signed with the request, so that the token is of no use at another cluster."""
_URL_SECONDS: Final = 60
"""What the signed request says. EKS accepts a token for 15 minutes after it was signed, whatever stands here."""


def eks_token(session: boto3.Session, cluster: str) -> str:
    """A token of the session's identity for one cluster, valid for 15 minutes.

    It is a signed `GetCallerIdentity`, which EKS sends to STS to learn who asks. It is made here, without a request.

    Raises:
        NoCredentialsError: the session has no credentials.
    """
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    sts = session.client("sts")
    signer = RequestSigner(
        sts.meta.service_model.service_id, sts.meta.region_name, "sts", "v4", credentials, session.events
    )
    request = {
        "method": "GET",
        "url": f"{sts.meta.endpoint_url}/?Action=GetCallerIdentity&Version=2011-06-15",
        "body": {},
        "headers": {_CLUSTER_HEADER: cluster},
        "context": {},
    }
    url = signer.generate_presigned_url(
        request, region_name=sts.meta.region_name, expires_in=_URL_SECONDS, operation_name=""
    )
    return _PREFIX + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
