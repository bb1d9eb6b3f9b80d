"""What scores nodes besides the strategy: preferred affinity, PreferNoSchedule taints and soft spread.

The parts and their weights are kube-scheduler's, each from 0 to 1 over the nodes that can hold the task. They decide
together with the strategy which node is chosen; they are not part of the score that is reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from engine_ops.engine.scheduling.problem import BoolArray, FloatArray
from engine_ops.engine.scheduling.rulebook import Rule

TAINT_WEIGHT = 3.0
NODE_AFFINITY_WEIGHT = 2.0
SPREAD_WEIGHT = 2.0
COMPANY_WEIGHT = 2.0


def preference_parts(rule: Rule, feasible: BoolArray) -> Iterator[tuple[str, float, FloatArray]]:
    """Go through the parts that tell nodes apart.

    Parameters
    ----------
    rule
        The task's rules.
    feasible
        The nodes that can hold the task, at least one. Values on other nodes mean nothing.

    Yields
    ------
    tuple of str, float and array
        The part's name, its weight, and its value on each node, 0 to 1.
    """
    if rule.unpreferred is not None:
        most = rule.unpreferred.max(where=feasible, initial=0.0)
        if most > 0:
            yield "taints", TAINT_WEIGHT, 1.0 - rule.unpreferred / most
    if rule.preference is not None:
        most = rule.preference.max(where=feasible, initial=0.0)
        if most > 0:
            yield "node affinity", NODE_AFFINITY_WEIGHT, rule.preference / most
    if rule.soft_spread:
        yield "spread", SPREAD_WEIGHT, _spread(rule, feasible)
    attraction = [(counts, factor) for counts, factor in rule.company if counts.any]
    if attraction:
        drawn: FloatArray = np.zeros(len(feasible))
        for counts, factor in attraction:
            drawn += factor * counts.on_nodes()
        least = np.min(drawn, where=feasible, initial=np.inf)
        most = np.max(drawn, where=feasible, initial=-np.inf)
        if most > least:
            yield "company", COMPANY_WEIGHT, (drawn - least) / (most - least)


def preference_points(rule: Rule, feasible: BoolArray) -> FloatArray:
    """Return the weighted sum of the parts on each node. See `preference_parts`."""
    points = np.zeros(len(feasible))
    for _, weight, values in preference_parts(rule, feasible):
        points += weight * values
    return points


def _spread(rule: Rule, feasible: BoolArray) -> FloatArray:
    """Score soft spread: fewer matching tasks in the domain are better, small topologies count as much as large ones.

    A node that lacks one of the labels scores 0.
    """
    labelled = feasible.copy()
    for counts, _ in rule.soft_spread:
        labelled &= counts.topology.has_key
    crowd = np.zeros(len(feasible))
    for counts, max_skew in rule.soft_spread:
        topology = counts.topology
        domains = np.zeros(len(topology.members) + 1, bool)
        domains[topology.domain_of[labelled]] = True
        crowd += counts.on_nodes() * math.log(int(domains.sum()) + 2) + (max_skew - 1)
    least = np.min(crowd, where=labelled, initial=np.inf)
    most = np.max(crowd, where=labelled, initial=0.0)
    if most == 0:
        return labelled.astype(np.float64)
    scores: FloatArray = np.where(labelled, (most + least - crowd) / most, 0.0)
    return scores
