"""The endpoints of AWS services, and connections to them."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import botocore.session
import urllib3
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from htcgrid_agent.errors import BadSettings

_CONNECT_SECONDS: Final = 5.0


def configured_endpoint(service: str, session: botocore.session.Session) -> str | None:
    """The URL that the environment or the profile names for a service, if one does, as for every AWS client."""
    url = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), service).provide()
    return str(url) if url else None


def public_endpoint(service: str, region: str, session: botocore.session.Session) -> str:
    """The URL of a service in a region, whose partition (aws, aws-cn, aws-us-gov, …) botocore's data names."""
    # The general resolver loads the endpoints of all services, which costs 15 MB.
    partitions = session.get_component("data_loader").load_data("partitions")["partitions"]
    for partition in partitions:
        # A region that is newer than the data is told by its name.
        if region in partition["regions"] or re.match(partition["regionRegex"], region):
            return f"https://{service}.{region}.{partition['outputs']['dnsSuffix']}"
    return f"https://{service}.{region}.amazonaws.com"


def refuse_unsupported(session: botocore.session.Session) -> None:
    """Refuse kinds of endpoints that are asked for and that the client does not support.

    Raises:
        BadSettings: FIPS, dual-stack or accelerated endpoints are asked for.
    """
    s3 = session.get_scoped_config().get("s3")
    asked = {
        "AWS_USE_FIPS_ENDPOINT (use_fips_endpoint)": session.get_config_variable("use_fips_endpoint"),
        "AWS_USE_DUALSTACK_ENDPOINT (use_dualstack_endpoint)": session.get_config_variable("use_dualstack_endpoint"),
    }
    if isinstance(s3, Mapping):
        asked |= {
            f"{name} of s3": _is_true(s3.get(name)) for name in ("use_dualstack_endpoint", "use_accelerate_endpoint")
        }
    for name, value in asked.items():
        if value:
            raise BadSettings(
                f"{name} asks for endpoints that the agent does not look up: unset it, and name the endpoints by "
                "AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL_DYNAMODB and AWS_ENDPOINT_URL_S3."
            )


def _is_true(value: object) -> bool:
    return str(value).lower() == "true"


def connection_pool(
    url: str, session: botocore.session.Session, connections: int, read_timeout: timedelta
) -> urllib3.HTTPConnectionPool:
    """Connections to `url`, through the proxy and with the certificates that the environment names."""
    scheme = urlsplit(url).scheme
    options: dict[str, Any] = {
        "maxsize": connections,
        "block": False,
        "timeout": urllib3.Timeout(connect=_CONNECT_SECONDS, read=read_timeout.total_seconds()),
    }
    if scheme == "https":
        options["ca_certs"] = session.get_config_variable("ca_bundle") or get_cert_path(verify=True)
        options["cert_reqs"] = "CERT_REQUIRED"
    proxy = get_environ_proxies(url).get(scheme)
    manager = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
    return manager.connection_from_url(url)
