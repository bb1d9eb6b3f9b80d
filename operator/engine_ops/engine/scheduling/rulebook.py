"""The rules of every kind of task, compiled against the nodes and against each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import TypeVar

import numpy as np

from engine_ops.engine.scheduling.company import Companions, Counts, Presence, SpreadCheck, SpreadCounts
from engine_ops.engine.scheduling.nodes import NodeIndex, Topology
from engine_ops.engine.scheduling.problem import BoolArray, FloatArray, Problem, Rules
from engine_ops.engine.scheduling.rules import PodAffinityTerm, TopologySpreadConstraint
from engine_ops.engine.scheduling.selectors import LabelGroups, Selector, normalise

_HARD_AFFINITY_WEIGHT = 1.0
"""What a placed task's required affinity adds to the score of those it asks for: kube-scheduler's default."""

_Term = tuple[Selector | None, str]
_Tally = Presence | Counts | SpreadCounts
_T = TypeVar("_T", bound=_Tally)


@dataclasses.dataclass(slots=True)
class Rule:
    """What holds for the tasks of one index of rules. The masks of other tasks' doings are live.

    Parameters
    ----------
    written
        The rules as they were written.
    static
        Nodes that the task's own selectors and tolerations, and cordons, leave.
    """

    written: Rules
    static: BoolArray
    unpreferred: FloatArray | None
    """PreferNoSchedule taints that are not tolerated, on each node."""
    preference: FloatArray | None
    """Weights of preferred node affinity, on each node."""
    spread: list[SpreadCheck] = dataclasses.field(default_factory=list)
    """Hard spread constraints, in the user's order."""
    companions: Companions | None = None
    """Required affinity."""
    avoided: list[Presence] = dataclasses.field(default_factory=list)
    """Tasks that required anti-affinity keeps it away from."""
    avoiding: list[Presence] = dataclasses.field(default_factory=list)
    """Placed tasks whose required anti-affinity keeps it away from them."""
    soft_spread: list[tuple[Counts, int]] = dataclasses.field(default_factory=list)
    """Soft spread constraints with their maxSkew."""
    company: list[tuple[Counts, float]] = dataclasses.field(default_factory=list)
    """Preferred company, its own and that of placed tasks, with factors."""
    ports: list[Presence] = dataclasses.field(default_factory=list)
    """Tasks that take a port which it takes too."""
    tallies: list[tuple[_Tally, float]] = dataclasses.field(default_factory=list)
    """What to tell when such a task is placed."""

    @property
    def has_preferences(self) -> bool:
        """Whether anything but the strategy scores its nodes."""
        return bool(self.soft_spread or self.company or self.unpreferred is not None or self.preference is not None)


@dataclasses.dataclass(frozen=True, slots=True)
class _Terms:
    """The rules of one task that concern other tasks, with selectors in one spelling."""

    hard_spread: list[tuple[Selector | None, TopologySpreadConstraint]]
    soft_spread: list[tuple[Selector | None, TopologySpreadConstraint]]
    affinity: list[_Term]
    anti_affinity: list[_Term]
    preferred: list[tuple[_Term, float]]

    @classmethod
    def of(cls, task: Rules) -> _Terms:
        spread = []
        for constraint in task.topology_spread_constraints:
            extra = {key: task.labels[key] for key in constraint.match_label_keys if key in task.labels}
            spread.append((normalise(constraint.label_selector, extra), constraint))
        affinity: list[_Term] = []
        anti: list[_Term] = []
        preferred: list[tuple[_Term, float]] = []
        if task.affinity is not None:
            for side, required, sign in (
                (task.affinity.pod_affinity, affinity, 1.0),
                (task.affinity.pod_anti_affinity, anti, -1.0),
            ):
                if side is None:
                    continue
                required += [_term(term) for term in side.required_during_scheduling_ignored_during_execution]
                preferred += [
                    (_term(item.pod_affinity_term), sign * item.weight)
                    for item in side.preferred_during_scheduling_ignored_during_execution
                ]
        return cls(
            hard_spread=[pair for pair in spread if pair[1].when_unsatisfiable == "DoNotSchedule"],
            soft_spread=[pair for pair in spread if pair[1].when_unsatisfiable == "ScheduleAnyway"],
            affinity=affinity,
            anti_affinity=anti,
            preferred=preferred,
        )

    def selectors(self) -> Iterable[Selector | None]:
        """Every selector in it."""
        yield from (selector for selector, _ in self.hard_spread)
        yield from (selector for selector, _ in self.soft_spread)
        yield from (selector for selector, _ in self.affinity)
        yield from (selector for selector, _ in self.anti_affinity)
        yield from (selector for (selector, _), _ in self.preferred)


def _term(term: PodAffinityTerm) -> _Term:
    return normalise(term.label_selector), term.topology_key


class Rulebook:
    """Compiles the rules of a problem.

    Parameters
    ----------
    problem
        The problem.

    Attributes
    ----------
    rules
        One for each index of rules.
    index
        The nodes by label and taint.
    """

    def __init__(self, problem: Problem) -> None:
        self.index = NodeIndex(problem.nodes)
        self._closed = problem.closed
        self._tallies: dict[Hashable, _Tally] = {}
        self._static: dict[Hashable, tuple[BoolArray, FloatArray | None, FloatArray | None, BoolArray]] = {}
        written = problem.rules
        self._terms = [_Terms.of(rules) for rules in written]
        selectors = [selector for terms in self._terms for selector in terms.selectors()]
        self._groups = LabelGroups([rules.labels for rules in written], selectors)
        # What is told, and what is asked, by the group of a task's labels.
        self._told: dict[int, list[tuple[_Tally, float]]] = {}
        self._asked_avoiding: dict[int, list[Presence]] = {}
        self._asked_company: dict[int, list[Counts]] = {}
        self.rules = [
            self._own(number, task, terms)
            for number, (task, terms) in enumerate(zip(written, self._terms, strict=True))
        ]
        for number, rule in enumerate(self.rules):
            group = self._groups.group_of[number]
            rule.tallies += self._told.get(group, ())
            rule.avoiding += self._asked_avoiding.get(group, ())
            rule.company += [(counts, 1.0) for counts in self._asked_company.get(group, ())]

    def reset(self) -> None:
        """Forget every task placed after `mark`."""
        for tally in self._tallies.values():
            tally.reset()

    def mark(self) -> None:
        """Make what is placed now what `reset` goes back to."""
        for tally in self._tallies.values():
            tally.mark()

    def _own(self, number: int, task: Rules, terms: _Terms) -> Rule:
        static, unpreferred, preference, affine = self._static_of(task)
        rule = Rule(task, static, unpreferred, preference)
        group = self._groups.group_of[number]
        self._add_spread(rule, terms, affine, group)
        self._add_affinity(rule, terms, group)
        for selector, key in terms.anti_affinity:
            avoided = self._told_by(("near", selector, key), selector, partial(Presence, self._topology(key)))
            rule.avoided.append(avoided)
            self._owned(rule, ("owner", selector, key), selector, key)
        for (selector, key), weight in terms.preferred:
            counts = self._told_by(("count", selector, key), selector, partial(Counts, self._topology(key)))
            rule.company.append((counts, weight))
            self._wished(rule, selector, key, weight)
        return rule

    def _static_of(self, task: Rules) -> tuple[BoolArray, FloatArray | None, FloatArray | None, BoolArray]:
        node_affinity = task.affinity.node_affinity if task.affinity is not None else None
        key = (tuple(sorted(task.node_selector.items())), node_affinity, tuple(task.tolerations))
        found = self._static.get(key)
        if found is None:
            affine = self.index.affinity(task)
            static = affine & ~self.index.untolerated(task.tolerations) & ~self.index.cordon(task.tolerations)
            if self._closed is not None:
                static &= ~self._closed
            unpreferred = self.index.unpreferred(task.tolerations)
            found = self._static[key] = (static, unpreferred, self.index.preference(task), affine)
        return found

    def _add_spread(self, rule: Rule, terms: _Terms, affine: BoolArray, group: int) -> None:
        for pairs in (terms.hard_spread, terms.soft_spread):
            has_keys = np.ones(self.index.size, bool)
            for _, constraint in pairs:
                has_keys &= self._topology(constraint.topology_key).has_key
            for selector, constraint in pairs:
                eligible = has_keys.copy()
                if constraint.node_affinity_policy == "Honor":
                    eligible &= affine
                if constraint.node_taints_policy == "Honor":
                    eligible &= ~self.index.untolerated(rule.written.tolerations)
                topology = self._topology(constraint.topology_key)
                key = (selector, constraint.topology_key, np.packbits(eligible).tobytes())
                # An empty selector chooses every task, and yet kube-scheduler counts none for it.
                counted = selector or None
                if constraint.when_unsatisfiable == "ScheduleAnyway":
                    soft = self._told_by(("soft spread", *key), counted, partial(Counts, topology, eligible))
                    rule.soft_spread.append((soft, constraint.max_skew))
                    continue
                hard = self._told_by(("hard spread", *key), counted, partial(SpreadCounts, topology, eligible))
                self_match = group in self._groups.chosen(selector)
                floor = constraint.min_domains or 1
                rule.spread.append(hard.check(self_match=self_match, max_skew=constraint.max_skew, min_domains=floor))

    def _add_affinity(self, rule: Rule, terms: _Terms, group: int) -> None:
        if not terms.affinity:
            return
        chosen = frozenset.intersection(*(self._groups.chosen(selector) for selector, _ in terms.affinity))
        keys = list(dict.fromkeys(key for _, key in terms.affinity))
        together = tuple(sorted({repr(selector) for selector, _ in terms.affinity}))
        presences = [
            self._register(("all", together, key), chosen, partial(Presence, self._topology(key))) for key in keys
        ]
        topologies = [self._topology(key) for key in keys]
        rule.companions = Companions(presences, topologies, self_match=group in chosen)
        for selector, key in terms.affinity:
            self._wished(rule, selector, key, _HARD_AFFINITY_WEIGHT)

    def _owned(self, rule: Rule, name: Hashable, selector: Selector | None, key: str) -> None:
        """Keep those that a placed task chooses out of its domain."""
        found = self._tallies.get(name)
        if found is None:
            found = self._tallies[name] = Presence(self._topology(key))
            for group in self._groups.chosen(selector):
                self._asked_avoiding.setdefault(group, []).append(found)
        rule.tallies.append((found, 1.0))

    def _wished(self, rule: Rule, selector: Selector | None, key: str, weight: float) -> None:
        """Draw those that a placed task chooses into its domain, or drive them out."""
        name = ("wish", selector, key)
        found = self._tallies.get(name)
        if found is None:
            counts = found = self._tallies[name] = Counts(self._topology(key))
            for group in self._groups.chosen(selector):
                self._asked_company.setdefault(group, []).append(counts)
        rule.tallies.append((found, weight))

    def _told_by(self, name: Hashable, selector: Selector | None, make: Callable[[], _T]) -> _T:
        return self._register(name, self._groups.chosen(selector), make)

    def _register(self, name: Hashable, chosen: Iterable[int], make: Callable[[], _T]) -> _T:
        found = self._tallies.get(name)
        if found is None:
            found = self._tallies[name] = make()
            for group in chosen:
                self._told.setdefault(group, []).append((found, 1.0))
        return found  # type: ignore[return-value]

    def _topology(self, key: str) -> Topology:
        return self.index.topology(key)
