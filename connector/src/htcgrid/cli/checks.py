"""What `htcgrid doctor` checks, one after another, until nothing further can be said."""

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING

from htcgrid._aio.engine import Engine
from htcgrid._core.client import Client
from htcgrid.cli.parameters import REQUEST_TIMEOUT
from htcgrid.errors import (
    AuthenticationFailed,
    GridError,
    GridUnavailable,
    GridUnreachable,
    ProfileInvalid,
    ProfileMissing,
    RequestRejected,
    UnexpectedAnswer,
)
from htcgrid.profile import Profile

if TYPE_CHECKING:
    from htcgrid_events import GridInfo

CLOCK_SKEW = timedelta(seconds=30)
"""By how much two clocks may differ: certificates and presigned links bear more, but times of tasks would mislead."""


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    check: str
    good: bool
    found: str
    what_to_do: str = ""


def findings(named: str | None) -> Iterator[Finding]:
    """Run the checks; each finding comes as soon as it is there."""
    try:
        profile = Profile.load(named)
    except (ProfileMissing, ProfileInvalid) as error:
        yield Finding("profile", False, str(error), advice_on(error))
        return
    yield Finding("profile", True, str(Profile.path_of(named) if named else Profile.default_path()))
    yield _encrypted(profile)
    engine = Engine()
    try:
        checks = _over_the_network(profile)
        while (finding := engine.run(_next(checks))) is not None:
            yield finding
    finally:
        engine.close()


async def _next(checks: AsyncIterator[Finding]) -> Finding | None:
    return await anext(checks, None)


async def _over_the_network(profile: Profile) -> AsyncIterator[Finding]:
    try:
        client = await Client.connect(profile, None, None, REQUEST_TIMEOUT)
    except GridError as error:
        yield Finding("sign-in", False, str(error), advice_on(error))
        return
    try:
        yield Finding("sign-in", True, f"as {profile.username}")
        before = time.time()
        try:
            info = await client.api.grid_info()
        except GridError as error:
            yield Finding("sessions API", False, str(error), advice_on(error))
            return
        yield Finding("sessions API", True, f"{profile.api_url}, Region {info.region}, you are tenant {info.tenant}")
        yield _same_version(info)
        yield _same_time(info, before, time.time())
        yield await _permitted(client)
        yield await _pushed(client, profile)
    finally:
        await client.close()


def _encrypted(profile: Profile) -> Finding:
    from htcgrid._transport.http import is_loopback

    plain = [url for url in (profile.api_url, profile.push_url) if not url.startswith(("https:", "wss:"))]
    elsewhere = [url for url in plain if not is_loopback(url)]
    if elsewhere:
        return Finding(
            "TLS", False, f"{elsewhere[0]} is not encrypted", "use the https and wss addresses of the stack's outputs"
        )
    return Finding("TLS", True, "not needed on this machine" if plain else "certificates are checked")


def _same_version(info: "GridInfo") -> Finding:
    mine = version("htcgrid")
    if mine.split(".")[:2] == info.version.split(".")[:2]:
        return Finding("versions", True, f"connector {mine}, grid {info.version}")
    todo = f"install the connector of the grid's version: pip install 'htcgrid=={info.version}'"
    return Finding("versions", False, f"this connector is {mine}, the grid is {info.version}", todo)


def _same_time(info: "GridInfo", before: float, after: float) -> Finding:
    now = info.now / 1000
    skew = max(0.0, before - now, now - after)  # the grid read its clock between the two
    if skew <= CLOCK_SKEW.total_seconds():
        return Finding("clock", True, f"within {skew:.1f} s of the grid's")
    todo = "set this machine's clock, for example with chrony or `timedatectl set-ntp true`"
    return Finding("clock", False, f"{skew:.0f} s away from the grid's", todo)


async def _permitted(client: Client) -> Finding:
    try:
        await client.api.sessions(None, None)
    except GridError as error:
        return Finding("permissions", False, str(error), advice_on(error))
    return Finding("permissions", True, "your sessions may be listed")


async def _pushed(client: Client, profile: Profile) -> Finding:
    client.channel.start()
    await client.channel.tried()
    if client.channel.connected:
        return Finding("push connection", True, profile.push_url)
    todo = "let WebSockets through to this address, or have the grid asked instead: sessions work without, but slower"
    return Finding("push connection", False, f"{profile.push_url} cannot be connected to", todo)


def advice_on(error: GridError) -> str:
    """What to do about an error, as far as there is something."""
    said = str(error).lower()
    if "certificate" in said or "ssl" in said:
        return "if a proxy of your company opens TLS, name its certificates in SSL_CERT_FILE; else check the clock"
    if isinstance(error, ProfileMissing):
        return "write one with `htcgrid config set`, or start a grid with `htcgrid local up`"
    if isinstance(error, ProfileInvalid):
        return "mend it with `htcgrid config set`"
    if isinstance(error, AuthenticationFailed):
        return "check user and password: `htcgrid config set --username NAME --ask-password`"
    if isinstance(error, GridUnreachable):
        return "check the address in `htcgrid config show`, the network, and HTTPS_PROXY"
    if isinstance(error, GridUnavailable):
        return "try again later; if it stays so, ask who runs the grid"
    if isinstance(error, UnexpectedAnswer):
        return "check that the address is a grid's, and of this connector's version"
    if isinstance(error, RequestRejected):
        return "ask who runs the grid whether your user may use it"
    return ""
