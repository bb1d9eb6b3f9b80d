"""How the operator's history is kept."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HistoryConfig:
    """How the operator's history is kept.

    Parameters
    ----------
    points
        The ring holds so many.
    flush_seconds
        The history is written at most so often.
    outcome_window_seconds
        For so long a point waits for the outcome of its workload.
    usage_period_seconds
        How often usage is sampled.
    observe
        A label selector of the namespaces whose workloads are observed without a request; None for none.
    """

    points: int = 10_000
    flush_seconds: float = 3.0
    outcome_window_seconds: float = 24 * 3600.0
    usage_period_seconds: float = 60.0
    observe: str | None = None
