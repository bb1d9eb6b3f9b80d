"""Several greedy algorithms in turn, until one is optimal or enough work is done."""

from __future__ import annotations

from collections.abc import Iterator

from engine_ops.engine.resource.admission import admissions
from engine_ops.engine.resource.balanced import balanced
from engine_ops.engine.resource.bounds import resource_prices
from engine_ops.engine.resource.first_fit_decreasing import first_fit_decreasing
from engine_ops.engine.resource.packing import Packing, cheapen, value_of
from engine_ops.engine.resource.problem import Problem
from engine_ops.engine.resource.subset_sum import minimum_bin_slack

_SHARPNESS = (8.0, 2.0, 32.0, 4.0, 16.0)
# Large items first, where a sample of the groups is all that one node sees.
_FOR_MANY_GROUPS = (2.0, 8.0, 4.0)
_MANY_GROUPS = 768
_ENOUGH_STEPS = 5_000  # Choices of `balanced` after which no further variant is begun: some 0.3 s. Not a clock, so
# that the same request has the same first answer everywhere.
_SINGLE_TYPES = 3


def first_answers(problem: Problem) -> Iterator[tuple[str, Packing]]:
    """Yield first answers, each better than those before it, with the algorithm's name, the cheapest to make first.

    The work is done between the answers: a caller who has seen enough takes no more of them.

    Parameters
    ----------
    problem
        At least one group.
    """
    best = None
    complete = False
    for name, packing in _all(problem):
        packing = cheapen(problem, packing)  # noqa: PLW2901
        value = value_of(problem, packing)
        if best is None or value < best:
            best = value
            yield name, packing
        complete = complete or not packing.left.any()
    if complete:
        return
    for packing in admissions(problem):
        packing = cheapen(problem, packing)  # noqa: PLW2901
        value = value_of(problem, packing)
        if best is None or value < best:
            best = value
            yield "admission", packing


def _all(problem: Problem) -> Iterator[tuple[str, Packing]]:
    yield "first-fit-decreasing", first_fit_decreasing(problem)
    packing = minimum_bin_slack(problem)
    if packing is not None:
        yield "minimum-bin-slack", packing
    done = 0
    types = len(problem.cost)
    holds_all = [kind for kind in range(types) if types > 1 and bool(problem.fits[:, kind].all())]
    # Fleets of one type: sometimes simpler is cheaper.
    fleets = [None, *([kind] for kind in _by_price(problem, holds_all)[:_SINGLE_TYPES])]
    pricings = [None] if types == 1 else [resource_prices(problem, problem.count), None]
    for sharpness in _FOR_MANY_GROUPS if len(problem.count) > _MANY_GROUPS else _SHARPNESS:
        for kinds in fleets:
            # Prices compare types: there is nothing to compare in a fleet of one type.
            for prices in pricings if kinds is None else [None]:
                if done >= _ENOUGH_STEPS:
                    return
                packing, steps = balanced(problem, problem.count, sharpness=sharpness, kinds=kinds, prices=prices)
                done += steps
                yield "balanced-fill", packing


def _by_price(problem: Problem, kinds: list[int]) -> list[int]:
    largest = problem.capacity.max(axis=0).clip(min=1)
    offered = (problem.capacity / largest)[:, :-1].mean(axis=1)
    return sorted(kinds, key=lambda kind: problem.cost[kind] / max(float(offered[kind]), 1e-300))
