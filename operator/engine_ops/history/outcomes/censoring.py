"""Which usage was cut off by a limit: what was needed may have been more than what was used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine_ops.history.outcomes.records import ContainerSpec
from engine_ops.history.outcomes.terminations import Terminations
from engine_ops.history.outcomes.usage import Usage

MEMORY_SHARE: Final = 0.98
"""Of its limit. The kernel reclaims page cache before it kills, so a container can live at its limit: its working set
stays just below."""

CPU_SHARE: Final = 0.95
"""Of its limit. A sample is a mean over 15 to 60 s; one that was throttled most of that time is just below."""


def censored(usage: Usage, terminations: Terminations, specs: Mapping[str, ContainerSpec]) -> list[str]:
    """Return the resources whose usage is a lower bound of what the workload needed.

    ``memory``: a container was OOM-killed, or its peak came to `MEMORY_SHARE` of its limit.
    ``cpu``: the peak of a container came to `CPU_SHARE` of its limit. The peak and not the p95 decides, because the
    peak is what ``resource_usage`` says: if that one sample was cut off, the number is a lower bound, however idle the
    container was otherwise.

    Parameters
    ----------
    usage, terminations
        What was seen.
    specs
        By container.
    """
    cut = []
    if _at_limit(usage, specs, "cpu", CPU_SHARE):
        cut.append("cpu")
    if terminations.oom_kills or _at_limit(usage, specs, "memory", MEMORY_SHARE):
        cut.append("memory")
    return cut


def _at_limit(usage: Usage, specs: Mapping[str, ContainerSpec], resource: str, share: float) -> bool:
    for name, spec in specs.items():
        limit, peak = spec.limits.get(resource), usage.peak(name, resource)
        if limit and peak is not None and peak >= share * limit:
            return True
    return False
