"""What makes one node better than another: kube-scheduler's formulas, from 0 to 1.

The sources are LeastAllocated, MostAllocated and BalancedAllocation of kube-scheduler 1.36, over cpu and memory with
equal weights. There they are whole numbers from 0 to 100 and each step is cut to a whole number; here nothing is.

Every function takes the free share of cpu and memory *before* the task and the task's share, all as parts of the
capacity, and works on numbers and arrays alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from engine_ops.engine.scheduling.model import Strategy
from engine_ops.engine.scheduling.problem import FloatArray

_F = TypeVar("_F", float, FloatArray)


def least_loaded(free_cpu: _F, free_memory: _F, cpu: _F, memory: _F) -> _F:
    """Return the mean share that is free after the task.

    >>> least_loaded(0.5, 1.0, 0.25, 0.25)
    0.5
    """
    return ((free_cpu - cpu) + (free_memory - memory)) * 0.5


def most_packed(free_cpu: _F, free_memory: _F, cpu: _F, memory: _F) -> _F:
    """Return the mean share that is taken after the task.

    >>> most_packed(0.5, 1.0, 0.25, 0.25)
    0.5
    """
    return 1.0 - least_loaded(free_cpu, free_memory, cpu, memory)


def balanced(free_cpu: _F, free_memory: _F, cpu: _F, memory: _F) -> _F:
    """Return 0.75, more where the task brings cpu and memory in step and less where it drives them apart.

    With two resources the standard deviation of their shares is half their distance, so the score is
    ``0.5 + (0.5 + (1 - after / 2) - (1 - before / 2)) / 2``: from 0.5 to 1.

    >>> balanced(1.0, 0.5, 0.5, 0.0)
    0.875
    """
    before = abs(free_cpu - free_memory)
    after = abs((free_cpu - cpu) - (free_memory - memory))
    return 0.75 + (before - after) * 0.25


STRATEGIES: dict[Strategy, Callable[..., float]] = {
    "least-loaded": least_loaded,
    "most-packed": most_packed,
    "balanced": balanced,
}
"""By the name in ``constraints.strategy``; `fragmentation` has the one that looks at more than cpu and memory."""
