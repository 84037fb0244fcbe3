"""Where AWS services are, and how they are reached from here."""

from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import botocore.session
import urllib3
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

_CONNECT_SECONDS: Final = 5.0


def configured_endpoint(service: str, session: botocore.session.Session) -> str | None:
    """The URL that the environment or the profile names for a service, as for every AWS client."""
    url = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), service).provide()
    return str(url) if url else None


def public_endpoint(service: str, region: str, session: botocore.session.Session) -> str:
    """The URL of a service in a region."""
    # The general resolver loads the endpoints of all services, which costs 15 MB.
    partitions = session.get_component("data_loader").load_data("partitions")["partitions"]
    for partition in partitions:
        if region in partition["regions"]:
            return f"https://{service}.{region}.{partition['outputs']['dnsSuffix']}"
    return f"https://{service}.{region}.amazonaws.com"


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
