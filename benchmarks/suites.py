"""On which grids which scenarios run: what is common to a grid is started once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.scenarios import (
    Scenario,
    against_raw,
    going_down,
    growth,
    latency,
    payloads,
    realistic,
    recovery,
    retrieval,
    small_sessions,
    streamed,
    throughput,
)
from benchmarks.shared_data import shared_data
from htcgrid_local.payload_store import STORES

WORKERS: Final = 4
"""As many slots as the agent's memory is judged by."""
_LEASE_SECONDS: Final = 6


@dataclass(frozen=True)
class Suite:
    """A grid, and what is measured on it."""

    scenarios: Sequence[Scenario]
    environment: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""
    agents: int = 1
    store: str = "s3"
    peers: bool = False


_STANDARD: Final = {"HTCGRID_RUNTIME": "python-lambda"}
_SHORT_LEASES: Final = {"HTCGRID_LEASE_SECONDS": str(_LEASE_SECONDS), "HTCGRID_GRACE_SECONDS": "1"}
_WITH_STANDARD: Final = ", Lambda's own client"

_STORES: Final = tuple(
    Suite((against_raw(5_000_000, 20, WORKERS), against_raw(100_000, 2_000, WORKERS)), suffix=f", {store}", store=store)
    for store in STORES
)
"""For each store that a local grid has."""

QUICK: Final = (
    Suite(
        (
            latency(30),
            *growth((1_000, 10_000, 100_000)),
            streamed(100_000),
            throughput(500, 1),
            throughput(2_000, 10),
            throughput(10_000, 50),
            throughput(20_000, 100),
            small_sessions(20, 10),
            realistic(0.01, 2_000, WORKERS),
            realistic(0.1, 400, WORKERS),
            payloads(1_000, 1_000),
            payloads(100_000, 50),
            payloads(5_000_000, 4),
            retrieval(20_000),
            going_down(),
        ),
        peers=True,
    ),
    Suite((throughput(20_000, None),), _STANDARD, _WITH_STANDARD),
    Suite((shared_data(100_000_000, 2_000), shared_data(200_000_000, 100)), agents=2),
    Suite((recovery(_LEASE_SECONDS),), _SHORT_LEASES),
    *_STORES,
)
FULL: Final = (
    Suite(
        (
            latency(100),
            *growth((1_000, 10_000, 100_000, 1_000_000)),
            streamed(1_000_000),
            throughput(2_000, 1),
            throughput(10_000, 10),
            throughput(50_000, 50),
            throughput(100_000, 100),
            small_sessions(100, 10),
            realistic(0.01, 10_000, WORKERS),
            realistic(0.1, 2_000, WORKERS),
            payloads(1_000, 10_000),
            payloads(100_000, 500),
            payloads(5_000_000, 20),
            retrieval(100_000),
            going_down(),
        ),
        peers=True,
    ),
    Suite((throughput(100_000, None),), _STANDARD, _WITH_STANDARD),
    Suite((recovery(_LEASE_SECONDS),), _SHORT_LEASES),
    *_STORES,
)
