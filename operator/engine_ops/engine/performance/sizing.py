"""From a quantile to a request and a limit."""

from __future__ import annotations

import dataclasses
import decimal
import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from engine_ops.api.quantity import format_bytes, format_cpu, parse_quantity
from engine_ops.engine.performance.hold_out import FEW_SAMPLES
from engine_ops.engine.performance.model import LimitRule, Objective
from engine_ops.engine.performance.quantiles import Estimate, FloatArray, estimate

Resource = Literal["cpu", "memory"]

_MILLI = decimal.Decimal("0.001")


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted of one resource.

    Parameters
    ----------
    resource
        Which.
    level
        The quantile.
    margin, confidence, limit
        As in the objective.
    least, most
        The bounds, in the resource's base unit; ``most`` is infinite without one.
    """

    resource: Resource
    level: float
    margin: float
    confidence: float
    limit: LimitRule
    least: float
    most: float

    @classmethod
    def of(cls, objective: Objective, resource: Resource) -> Goal:
        """Take one resource's part of an objective."""
        bounds = objective.bounds
        cpu = resource == "cpu"
        most = bounds.max_cpu if cpu else bounds.max_memory
        return cls(
            resource=resource,
            level=objective.cpu_quantile if cpu else objective.memory_quantile,
            margin=objective.margin,
            confidence=objective.confidence,
            limit=objective.cpu_limit if cpu else objective.memory_limit,
            least=bounds.min_cpu if cpu else bounds.min_memory,
            most=math.inf if most is None else most,
        )

    @property
    def rule(self) -> str:
        """The rule in words, such as ``p95 x 1.15``."""
        name = "peak" if self.level >= 1 else f"p{self.level * 100:g}"
        return f"{name} x {1 + self.margin:g}"

    def bounded(self, amount: float) -> float:
        """Return the amount within the bounds."""
        return min(max(amount, self.least), self.most)

    def written(self, amount: float) -> str:
        """Write an amount as a quantity, rounded up, but never above the upper bound."""
        write: Callable[[float], str] = format_cpu if self.resource == "cpu" else format_bytes
        text = write(amount)
        if parse_quantity(text) <= self.most:
            return text
        # The step up to a whole mebibyte or milli-core would cross the bound: the bound itself, rounded down.
        if self.resource == "cpu":
            # In decimals: as floats, 0.7 would be below 700m, and a hair below 2 would be 2.
            whole = decimal.Decimal(repr(float(self.most))).quantize(_MILLI, rounding=decimal.ROUND_FLOOR)
            return format_cpu(float(whole))
        return str(math.floor(self.most))


@dataclasses.dataclass(frozen=True, slots=True)
class Sizing:
    """The answer for one resource of one container; amounts as quantities.

    Parameters
    ----------
    request, limit, lower, upper
        ``limit`` is None without one, ``upper`` where the samples do not bound the quantile.
    estimate
        The quantile behind it.
    goal
        What was wanted.
    bound
        Which bound the request was moved to: ``min``, ``max`` or None.
    """

    request: str
    limit: str | None
    lower: str
    upper: str | None
    estimate: Estimate
    goal: Goal
    bound: Literal["min", "max"] | None

    @property
    def thin(self) -> bool:
        """Whether there are too few samples to say much."""
        unbounded = self.estimate.upper is None and self.goal.level < 1
        return self.estimate.effective_samples < FEW_SAMPLES or unbounded


def size(samples: FloatArray, goal: Goal) -> Sizing:
    """Choose a request and a limit.

    The request is the quantile of the samples and the margin, within the bounds; ``lower`` and ``upper`` are the same
    for the ends of the quantile's confidence interval. A limit is never below the request.

    Parameters
    ----------
    samples
        Shape (n,), oldest first, n at least 1, in cores or bytes.
    goal
        What is wanted.
    """
    found = estimate(samples, goal.level, goal.confidence)
    factor = 1 + goal.margin
    wanted = found.value * factor
    request = goal.bounded(wanted)
    peak = goal.bounded(float(np.max(samples)) * factor)
    limit = {"none": None, "request": request, "peak": max(request, peak)}[goal.limit]
    return Sizing(
        request=goal.written(request),
        limit=None if limit is None else goal.written(limit),
        lower=goal.written(goal.bounded(found.lower * factor)),
        upper=None if found.upper is None else goal.written(goal.bounded(found.upper * factor)),
        estimate=found,
        goal=goal,
        bound="max" if wanted > goal.most else "min" if wanted < goal.least else None,
    )
