"""The phases of the load: what is done to a running system, and the figures that come out of each."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import statistics
import time
from collections.abc import Callable

from lib.load_client import LoadClient
from lib.processes import RunningSystem, descendants, memory, others_cpu_seconds
from lib.questions import large, small
from lib.summary import percentile

Figures = dict[str, float]
Encode = Callable[[str], bytes]
"""Makes the request of a name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """How much load there is.

    Parameters
    ----------
    paced_seconds, paced_per_second
        The open loop.
    burst
        Requests as fast as they can be made.
    large
        Requests with 5,000 items, one after the other.
    crowd
        Finished requests in the cluster when memory is read.
    rounds
        How often everything but the crowd is measured.
    """

    paced_seconds: int = 25
    paced_per_second: float = 20.0
    burst: int = 2000
    large: int = 20
    crowd: int = 10_000
    rounds: int = 2


QUICK = Sizes(paced_seconds=3, burst=200, large=3, crowd=300, rounds=1)
WARM_UP = 40
PATIENCE_SECONDS = 120.0
PATIENCE_PER_REQUEST_SECONDS = 0.2


async def warm_up(client: LoadClient, encode: Encode = small) -> None:
    """Have every connection, worker and code path used once."""
    await client.create_at_once([f"warm-{number}" for number in range(WARM_UP)], encode)
    await client.all_ready(deadline_seconds=PATIENCE_SECONDS)


async def paced(client: LoadClient, system: RunningSystem, sizes: Sizes, encode: Encode = small) -> Figures:
    """Measure the time from the create call to Ready at a fixed rate."""
    names = [f"paced-{number}" for number in range(int(sizes.paced_seconds * sizes.paced_per_second))]
    before = await asyncio.to_thread(system.settle)
    await client.create_at_rate(names, encode, sizes.paced_per_second)
    await client.all_ready(deadline_seconds=PATIENCE_SECONDS)
    after = await asyncio.to_thread(system.settle)
    delays_ms = [(client.ready[name] - client.created[name]) * 1000 for name in names]
    return {
        "paced_p50_ms": percentile(delays_ms, 50),
        "paced_p95_ms": percentile(delays_ms, 95),
        "paced_cpu_ms": (after - before) * 1000 / len(names),
    }


async def burst(client: LoadClient, system: RunningSystem, sizes: Sizes, encode: Encode = small) -> Figures:
    """Measure the throughput, and the CPU of a request, when requests come as fast as they can be made."""
    names = [f"burst-{number}" for number in range(sizes.burst)]
    before = await asyncio.to_thread(system.settle)
    own_before, others_before = time.process_time(), others_cpu_seconds(system.pid)
    await client.create_at_once(names, encode)
    created = time.perf_counter()
    await client.all_ready(deadline_seconds=PATIENCE_SECONDS + PATIENCE_PER_REQUEST_SECONDS * len(names))
    own = time.process_time() - own_before
    after = await asyncio.to_thread(system.settle)
    began = min(client.created[name] for name in names)
    return {
        "burst_answered_per_s": len(names) / (max(client.ready[name] for name in names) - began),
        "burst_created_per_s": len(names) / (created - began),
        "burst_cpu_ms": (after - before) * 1000 / len(names),
        "burst_others_cpu_ms": (others_cpu_seconds(system.pid) - others_before) * 1000 / len(names),
        "burst_client_cpu_ms": own * 1000 / len(names),
    }


async def large_items(client: LoadClient, system: RunningSystem, sizes: Sizes) -> Figures:
    """Measure the CPU of a request with 5,000 items inline, beside one JSON parse of the object in this process."""
    names = [f"large-{number}" for number in range(sizes.large)]
    await client.create("large-warm-up", large("large-warm-up"))
    await client.all_ready(deadline_seconds=PATIENCE_SECONDS)
    document = await client.read("large-warm-up")
    parses_ms = [_parse_ms(document)]
    before = await asyncio.to_thread(system.settle)
    for name in names:
        await client.create(name, large(name))
        await client.all_ready(deadline_seconds=PATIENCE_SECONDS)
        parses_ms.append(_parse_ms(document))
    after = await asyncio.to_thread(system.settle)
    delays_ms = [(client.ready[name] - client.created[name]) * 1000 for name in names]
    cpu_ms = (after - before) * 1000 / len(names)
    parse_ms = statistics.median(parses_ms)
    return {
        "large_cpu_ms": cpu_ms,
        "large_parse_ms": parse_ms,
        "large_cpu_parses": cpu_ms / parse_ms,
        "large_p50_ms": percentile(delays_ms, 50),
        "large_document_kb": len(document) / 1000,
    }


async def crowd(client: LoadClient, sizes: Sizes) -> None:
    """Fill the cluster with finished requests."""
    names = [f"crowd-{number}" for number in range(sizes.crowd)]
    await client.create_at_once(names, small)
    await client.all_ready(deadline_seconds=PATIENCE_SECONDS + PATIENCE_PER_REQUEST_SECONDS * len(names))


def memory_figures(system: RunningSystem, prefix: str) -> Figures:
    """Return the memory of the main process and of the other processes, in MB (10^6 bytes)."""
    main = memory(system.pid)
    others = [memory(pid) for pid in descendants(system.pid)]
    return {
        f"{prefix}_rss_mb": main.resident_bytes / 1e6,
        f"{prefix}_peak_rss_mb": main.peak_bytes / 1e6,
        f"{prefix}_pss_mb": main.proportional_bytes / 1e6,
        f"{prefix}_others": len(others),
        f"{prefix}_others_rss_mb": sum(other.resident_bytes for other in others) / 1e6,
        f"{prefix}_others_pss_mb": sum(other.proportional_bytes for other in others) / 1e6,
    }


def _parse_ms(document: bytes) -> float:
    began = time.process_time_ns()
    json.loads(document)
    return (time.process_time_ns() - began) / 1e6
