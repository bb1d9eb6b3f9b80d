"""When to stop: a packing that costs no more than the lower bound is optimal."""

from __future__ import annotations

from engine_ops.engine.resource.bounds import Bound, lower_bound
from engine_ops.engine.resource.packing import Packing, cost_of
from engine_ops.engine.resource.problem import Problem


class Proof:
    """The one place that decides whether a packing is proven optimal, so that all work for a better one ends.

    Bounds are as dear as answers, and cannot exceed the cost of one: the first complete packing is therefore held
    against the cheap bounds first. Where one of them reaches its cost, no dearer bound could say more; most small
    requests end there. Otherwise every bound is derived, once.

    Parameters
    ----------
    problem
        The question.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._bound: Bound | None = None

    @property
    def cost(self) -> int | None:
        """The lower bound for all items that fit a node, as far as it was needed; None before any complete packing."""
        return None if self._bound is None else self._bound.cost

    def settles(self, packing: Packing) -> bool:
        """Whether the packing places all items and none that does costs less."""
        if packing.left.any():
            return False
        cost = cost_of(self._problem, packing)
        if self._bound is None:
            self._bound = lower_bound(self._problem, self._problem.count, enough=cost)
        return cost <= self._bound.cost
