"""Masks over nodes: by label, by taint, by topology domain."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from engine_ops.engine.scheduling.problem import BoolArray, FloatArray, IntArray
from engine_ops.engine.scheduling.rules import (
    HARD_EFFECTS,
    NodeExpression,
    NodeSelectorTerm,
    Taint,
    Toleration,
    parse_int,
)
from engine_ops.engine.scheduling.subjects import NodeRef, Rules

CORDON = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
"""A cordoned node takes a task that tolerates this taint, whether or not the node carries it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Topology:
    """The domains of one topology key.

    Parameters
    ----------
    domain_of
        The domain of each node, counted from 0; -1 for a node without the label.
    members
        The nodes of each domain.
    has_key
        Whether each node has the label.
    """

    domain_of: IntArray
    members: Sequence[IntArray]
    has_key: BoolArray


class NodeIndex:
    """Answers which nodes a selector or a list of tolerations admits, without a loop over nodes.

    Parameters
    ----------
    nodes
        The nodes, in the order of all masks.
    """

    def __init__(self, nodes: Sequence[NodeRef]) -> None:
        self.size = len(nodes)
        self._values: dict[str, dict[str, list[int]]] = {}
        for i, node in enumerate(nodes):
            for key, value in node.labels.items():
                self._values.setdefault(key, {}).setdefault(value, []).append(i)
        self._names = {node.id: i for i, node in enumerate(nodes)}
        self._single: Topology | None = None
        self._topologies: dict[str, Topology] = {}
        self.cordoned = np.fromiter((node.unschedulable for node in nodes), bool, self.size)
        self._hard = _TaintIndex(nodes, HARD_EFFECTS)
        self._soft = _TaintIndex(nodes, frozenset({"PreferNoSchedule"}))

    def topology(self, key: str) -> Topology:
        """Return the domains of a topology key."""
        found = self._topologies.get(key)
        if found is None:
            domain_of = np.full(self.size, -1, np.int64)
            members = [np.array(indices, np.int64) for indices in self._values.get(key, {}).values()]
            for domain, indices in enumerate(members):
                domain_of[indices] = domain
            found = self._topologies[key] = Topology(domain_of, members, domain_of >= 0)
        return found

    @property
    def single(self) -> Topology:
        """The topology in which each node is a domain of its own, whatever its labels."""
        if self._single is None:
            numbers = np.arange(self.size, dtype=np.int64)
            self._single = Topology(numbers, list(numbers.reshape(-1, 1)), np.ones(self.size, bool))
        return self._single

    def labelled(self, labels: Mapping[str, str]) -> BoolArray:
        """Return the nodes that have all these labels (a task's ``nodeSelector``)."""
        mask = np.ones(self.size, bool)
        for key, value in labels.items():
            mask &= self._with_values(key, (value,))
        return mask

    def matching(self, term: NodeSelectorTerm) -> BoolArray:
        """Return the nodes that a selector term admits; an empty term admits none."""
        if not term.match_expressions and not term.match_fields:
            return np.zeros(self.size, bool)
        mask = np.ones(self.size, bool)
        for expression in term.match_expressions:
            mask &= self._expression(expression)
        for field in term.match_fields:
            named = np.zeros(self.size, bool)
            if field.values[0] in self._names:
                named[self._names[field.values[0]]] = True
            mask &= named if field.operator == "In" else ~named
        return mask

    def affinity(self, rules: Rules) -> BoolArray:
        """Return the nodes that a task's ``nodeSelector`` and required node affinity admit."""
        mask = self.labelled(rules.node_selector)
        required = (
            rules.affinity.node_affinity.required_during_scheduling_ignored_during_execution
            if rules.affinity is not None and rules.affinity.node_affinity is not None
            else None
        )
        if required is not None:
            admitted = np.zeros(self.size, bool)
            for term in required.node_selector_terms:
                admitted |= self.matching(term)
            mask &= admitted
        return mask

    def preference(self, rules: Rules) -> FloatArray | None:
        """Return the summed weights of a task's preferred node affinity on each node; None without any."""
        if rules.affinity is None or rules.affinity.node_affinity is None:
            return None
        preferred = rules.affinity.node_affinity.preferred_during_scheduling_ignored_during_execution
        if not preferred:
            return None
        weights = np.zeros(self.size)
        for item in preferred:
            weights[self.matching(item.preference)] += item.weight
        return weights

    def untolerated(self, tolerations: Iterable[Toleration]) -> BoolArray:
        """Return the nodes with a NoSchedule or NoExecute taint that none of the tolerations covers."""
        return self._hard.count_untolerated(tolerations) > 0

    def unpreferred(self, tolerations: Iterable[Toleration]) -> FloatArray | None:
        """Return how many PreferNoSchedule taints of each node are not tolerated; None if no node has any."""
        if self._soft.empty:
            return None
        return self._soft.count_untolerated(tolerations).astype(np.float64)

    def cordon(self, tolerations: Iterable[Toleration]) -> BoolArray:
        """Return the cordoned nodes, none of them if the tolerations cover that."""
        if any(t.tolerates(CORDON.key, CORDON.value, CORDON.effect) for t in tolerations):
            return np.zeros(self.size, bool)
        return self.cordoned

    def _with_values(self, key: str, values: Iterable[str]) -> BoolArray:
        mask = np.zeros(self.size, bool)
        by_value = self._values.get(key, {})
        for value in values:
            if value in by_value:
                mask[by_value[value]] = True
        return mask

    def _expression(self, expression: NodeExpression) -> BoolArray:
        by_value = self._values.get(expression.key, {})
        match expression.operator:
            case "In":
                return self._with_values(expression.key, expression.values)
            case "NotIn":
                return ~self._with_values(expression.key, expression.values)
            case "Exists":
                return self._with_values(expression.key, by_value)
            case "DoesNotExist":
                return ~self._with_values(expression.key, by_value)
        limit = parse_int(expression.values[0])
        numbers = {value: parse_int(value) for value in by_value}
        if expression.operator == "Gt":
            chosen = [v for v, n in numbers.items() if n is not None and limit is not None and n > limit]
        else:
            chosen = [v for v, n in numbers.items() if n is not None and limit is not None and n < limit]
        return self._with_values(expression.key, chosen)


class _TaintIndex:
    """The distinct taints of some effects, and the nodes that carry each."""

    def __init__(self, nodes: Sequence[NodeRef], effects: frozenset[str]) -> None:
        carriers: dict[tuple[str, str, str], list[int]] = {}
        for i, node in enumerate(nodes):
            for taint in node.taints:
                if taint.effect in effects:
                    carriers.setdefault((taint.key, taint.value, taint.effect), []).append(i)
        self.empty = not carriers
        self._total = np.zeros(len(nodes), np.int64)
        self._carriers: dict[tuple[str, str, str], IntArray] = {}
        self._by_key: dict[str, list[tuple[str, str, str]]] = {}
        for name, indices in carriers.items():
            self._carriers[name] = np.array(indices, np.int64)
            np.add.at(self._total, self._carriers[name], 1)
            self._by_key.setdefault(name[0], []).append(name)

    def count_untolerated(self, tolerations: Iterable[Toleration]) -> IntArray:
        tolerated: set[tuple[str, str, str]] = set()
        for toleration in tolerations:
            candidates = self._by_key.get(toleration.key, ()) if toleration.key else self._carriers
            tolerated.update(taint for taint in candidates if toleration.tolerates(*taint))
        count = self._total.copy()
        for taint in tolerated:
            np.subtract.at(count, self._carriers[taint], 1)
        return count
