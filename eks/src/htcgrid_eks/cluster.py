"""A client of an EKS cluster's API server, for whom an access entry knows by an IAM role."""

import base64
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import boto3
import urllib3
from kubernetes.client import ApiClient, Configuration

from htcgrid_eks.eks_token import eks_token

_RETRIES: Final = urllib3.Retry(total=5, backoff_factor=0.5, backoff_jitter=0.5, status_forcelist=(500, 502, 503, 504))
"""Within about 15 s. Requests that are not idempotent are repeated only if no connection was made."""
_TOKEN_SECONDS: Final = 600
"""How long a token is used, of the 15 minutes that it is valid."""


@dataclass(frozen=True)
class Cluster:
    """One EKS cluster, as CloudFormation names it."""

    name: str
    endpoint: str
    """An https:// URL."""
    ca: str
    """Its certificate authority: PEM, in base64."""


def connect(cluster: Cluster, session: boto3.Session, monotonic: Callable[[], float] = time.monotonic) -> ApiClient:
    """A client whose token is made anew before it ends. It may be used by several threads.

    Raises:
        binascii.Error: the cluster's certificate authority is not base64.
    """
    configuration = Configuration()
    configuration.host = cluster.endpoint
    configuration.retries = _RETRIES
    configuration.ssl_ca_cert = str(_ca_file(cluster))
    configuration.api_key_prefix["authorization"] = "Bearer"
    made_at = -float(_TOKEN_SECONDS)

    def refresh(configuration: Configuration) -> None:
        nonlocal made_at
        if monotonic() - made_at >= _TOKEN_SECONDS:
            configuration.api_key["authorization"] = eks_token(session, cluster.name)
            made_at = monotonic()

    refresh(configuration)
    configuration.refresh_api_key_hook = refresh  # type: ignore[assignment]  # it is declared as None alone
    return ApiClient(configuration)


def _ca_file(cluster: Cluster) -> Path:
    # The client takes a file alone. It is public, and as long-lived as the process.
    with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
        file.write(base64.b64decode(cluster.ca, validate=True))
    return Path(file.name)
