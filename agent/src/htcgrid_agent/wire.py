"""Requests to AWS services that speak JSON, at a fraction of what a general client costs.

An agent makes about one request per task at chunk_size=1, and a call through boto3 costs 1.5 ms of processor time, of
which the request itself is a quarter. So the agent's few operations go this way: botocore gives the credentials, the
region and the endpoint, as for every AWS client; signing, sending and repeating are here.
"""

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import botocore.session
import urllib3
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError, NoRegionError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from htcgrid_agent.breaker import Breaker
from htcgrid_agent.errors import ServiceAvoided
from htcgrid_agent.metrics import Counter
from htcgrid_agent.signing import Keys, Signer
from htcgrid_controlplane.backoff import Backoff

_TRIES: Final = 4
_BACKOFF: Final = Backoff(base=timedelta(milliseconds=50), cap=timedelta(seconds=2))
_CONNECT_SECONDS: Final = 5.0
_THROTTLED: Final = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)


@dataclass(frozen=True)
class Protocol:
    """How a service names its operations."""

    service: str
    target: str


DYNAMODB: Final = Protocol("dynamodb", "DynamoDB_20120810")
SQS: Final = Protocol("sqs", "AmazonSQS")


class JsonClient:
    """One service, reached by any number of threads."""

    def __init__(
        self,
        protocol: Protocol,
        session: botocore.session.Session,
        *,
        connections: int,
        read_timeout: timedelta,
        breaker: Breaker,
        requests: Counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Find out where the service is and who asks.

        Raises:
            NoRegionError, NoCredentialsError: the environment does not say.
        """
        region = session.get_config_variable("region")
        if not region:
            raise NoRegionError
        credentials = session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        self._protocol = protocol
        self._credentials = credentials
        self._signer = Signer(protocol.service, region)
        self._breaker = breaker
        self._requests = requests
        self._sleep = sleep
        self._url = urlsplit(_endpoint(protocol.service, region, session))
        self._host = self._url.netloc
        self._pool = _pool(self._url.geturl(), session, connections, read_timeout)

    def call(self, operation: str, request: Mapping[str, object]) -> dict[str, Any]:
        """Make one request, again after a while where that may help.

        Raises:
            ClientError: the service refused.
            HTTPClientError: it could not be reached, or kept failing and is left alone for a while.
        """
        body = json.dumps(request, separators=(",", ":")).encode()
        retry = 0
        while True:
            retry += 1
            if not self._breaker.allows():
                raise ServiceAvoided(service=self._protocol.service, seconds=self._breaker.seconds_left)
            try:
                answer = self._call_once(operation, body)
            except HTTPClientError:
                self._note(operation, "unreachable", passing=True)
                if retry == _TRIES:
                    raise
            except ClientError as error:
                passing = _may_pass(error)
                self._note(operation, error.response["Error"]["Code"], passing=passing)
                if retry == _TRIES or not passing:
                    raise
            else:
                self._note(operation, "", passing=False)
                return answer
            self._sleep(_BACKOFF.wait(retry, random.random).total_seconds())

    def _note(self, operation: str, error: str, *, passing: bool) -> None:
        self._requests.add(1, operation, error)
        if passing:
            self._breaker.failed()
        else:
            self._breaker.succeeded()

    def _call_once(self, operation: str, body: bytes) -> dict[str, Any]:
        frozen = self._credentials.get_frozen_credentials()
        headers = {
            "content-type": "application/x-amz-json-1.0",
            "host": self._host,
            "x-amz-target": f"{self._protocol.target}.{operation}",
        }
        keys = Keys(frozen.access_key or "", frozen.secret_key or "", frozen.token)
        signed = self._signer.sign(headers, body, keys, datetime.now(UTC))
        try:
            response = self._pool.urlopen("POST", "/", body=body, headers=signed, retries=False, redirect=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise HTTPClientError(error=error) from error
        try:
            answer = json.loads(response.data) if response.data else {}
        except ValueError:
            answer = {"message": "the answer is not JSON"}
        if response.status != HTTPStatus.OK:
            raise _error(answer, response.status, operation)
        if not isinstance(answer, dict) or "message" in answer:
            raise HTTPClientError(error=f"{operation} was answered with what is not a JSON object")
        return answer


def _error(answer: object, status: int, operation: str) -> ClientError:
    said = answer if isinstance(answer, dict) else {}
    code = str(said.get("__type") or said.get("code") or status).rpartition("#")[2]
    message = str(said.get("message") or said.get("Message") or "")
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        operation,
    )


def _may_pass(error: ClientError) -> bool:
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or error.response["Error"]["Code"] in _THROTTLED


def _endpoint(service: str, region: str, session: botocore.session.Session) -> str:
    configured = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), service).provide()
    if configured:
        return str(configured)
    # The general resolver loads the endpoints of all services, which costs 15 MB.
    partitions = session.get_component("data_loader").load_data("partitions")["partitions"]
    for partition in partitions:
        if region in partition["regions"]:
            return f"https://{service}.{region}.{partition['outputs']['dnsSuffix']}"
    return f"https://{service}.{region}.amazonaws.com"


def _pool(
    url: str, session: botocore.session.Session, connections: int, read_timeout: timedelta
) -> urllib3.HTTPConnectionPool:
    parts = urlsplit(url)
    options: dict[str, Any] = {
        "maxsize": connections,
        "block": False,
        "timeout": urllib3.Timeout(connect=_CONNECT_SECONDS, read=read_timeout.total_seconds()),
    }
    if parts.scheme == "https":
        options["ca_certs"] = session.get_config_variable("ca_bundle") or get_cert_path(verify=True)
        options["cert_reqs"] = "CERT_REQUIRED"
    proxy = get_environ_proxies(url).get(parts.scheme)
    manager = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
    return manager.connection_from_url(url)
