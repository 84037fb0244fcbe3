"""What `htcgrid doctor` checks, one after another, until nothing further can be said."""

import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING

from htcgrid._aio.engine import Engine
from htcgrid._core.client import Client
from htcgrid.cli.findings import Finding, advice_on
from htcgrid.cli.parameters import REQUEST_TIMEOUT
from htcgrid.cli.probe import probe
from htcgrid.errors import GridError, ProfileInvalid, ProfileMissing
from htcgrid.profile import Profile
from htcgrid_events import RELAY_PART_BYTES

if TYPE_CHECKING:
    from htcgrid_events import GridInfo

HOST_CHECKS = "htcgrid.checks"
"""The entry point group of functions without parameters that give sentences about this host."""
CLOCK_SKEW = timedelta(seconds=30)
"""By how much two clocks may differ: certificates and presigned links bear more, but times of tasks would mislead."""


def findings(named: str | None, *, with_probe: bool) -> Iterator[Finding]:
    """Run the checks, at last a task if `with_probe`; each finding comes as soon as it is there."""
    try:
        profile = Profile.load(named)
    except (ProfileMissing, ProfileInvalid) as error:
        yield Finding("profile", False, str(error), advice_on(error))
        return
    yield Finding("profile", True, str(Profile.default_path() if named is None else Profile.path_of(named)))
    yield _encrypted(profile)
    engine = Engine()
    try:
        checks = _over_the_network(profile, with_probe=with_probe)
        while (finding := engine.run(_next(checks))) is not None:
            yield finding
    finally:
        engine.close()
    yield from _of_this_host()


def _of_this_host() -> Iterator[Finding]:
    """What other installed parts of the grid find here, such as how the workers of an agent would be isolated."""
    for check in entry_points(group=HOST_CHECKS):
        yield Finding(check.name, True, " ".join(check.load()()))


async def _next(checks: AsyncIterator[Finding]) -> Finding | None:
    return await anext(checks, None)


async def _over_the_network(profile: Profile, *, with_probe: bool) -> AsyncIterator[Finding]:
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
        yield await _payloads(client, info)
        yield await _pushed(client, profile)
        if with_probe:
            yield await probe(client)
    finally:
        await client.close()


def _encrypted(profile: Profile) -> Finding:
    from htcgrid._transport.http import is_loopback, unencrypted

    if plain := unencrypted(profile):
        found = f"not encrypted: {', '.join(plain)}"
        if profile.allow_unencrypted:
            return Finding("TLS", True, f"{found}; the profile allows it")
        return Finding("TLS", False, found, "use the https and wss addresses of the stack's outputs")
    found = "not needed on this machine" if is_loopback(profile.api_url) else "certificates are checked"
    return Finding("TLS", True, found)


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


async def _payloads(client: Client, info: "GridInfo") -> Finding:
    """By which way payloads go. It writes nothing: the probe task has one."""
    from htcgrid._transport.direct import NotReached

    if info.store == "s3":
        return Finding("payloads", True, "presigned URLs of S3")
    relayed = f"through the API, in parts of {RELAY_PART_BYTES // 1024**2} MB"
    direct = client.api.payloads.direct
    place = direct.place(info.store)
    if place is None:
        return Finding("payloads", True, relayed)
    try:
        await direct.check(info.store)
    except NotReached as error:
        todo = "mend what the profile says of it in `stores`, or take it out"
        return Finding("payloads", False, f"{relayed}, since {place} is not reached: {error}", todo)
    return Finding("payloads", True, f"directly: {place}")


async def _pushed(client: Client, profile: Profile) -> Finding:
    client.channel.start()
    await client.channel.tried()
    if client.channel.connected:
        return Finding("push connection", True, profile.push_url)
    todo = "let WebSockets through to this address, or have the grid asked instead: sessions work without, but slower"
    return Finding("push connection", False, f"{profile.push_url} cannot be connected to", todo)
