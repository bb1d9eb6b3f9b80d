"""The rules of every kind of task, compiled against the nodes and against each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from engine_ops.engine.scheduling.company import Companions, Counts, Presence, SpreadCheck, SpreadCounts
from engine_ops.engine.scheduling.nodes import NodeIndex, Topology
from engine_ops.engine.scheduling.problem import BoolArray, FloatArray, Problem
from engine_ops.engine.scheduling.rules import PodAffinityTerm, TopologySpreadConstraint
from engine_ops.engine.scheduling.selectors import (
    Choice,
    LabelGroups,
    Namespaces,
    Selector,
    choice_of_term,
    normalise,
)
from engine_ops.engine.scheduling.subjects import Port, Rules

_HARD_AFFINITY_WEIGHT = 1.0
"""What a placed task's required affinity adds to the score of those it asks for: kube-scheduler's default."""


class _Term(NamedTuple):
    """A term of (anti-)affinity.

    Parameters
    ----------
    sought
        Which placed tasks count for a task that has the term and is to be placed.
    bound
        To which new tasks it applies when a placed task has it.
    key
        Of the topology.
    """

    sought: Choice
    bound: Choice
    key: str


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

    hard_spread: list[tuple[Choice, TopologySpreadConstraint]]
    soft_spread: list[tuple[Choice, TopologySpreadConstraint]]
    affinity: list[_Term]
    anti_affinity: list[_Term]
    preferred: list[tuple[_Term, float]]

    @classmethod
    def of(cls, task: Rules, namespaces: Namespaces, *, asking: bool) -> _Terms:
        spread = []
        own = namespaces.own(task.namespace)
        # What a fixed task asks for itself is of no interest any more; what it asks of others is.
        for constraint in task.topology_spread_constraints if asking else ():
            extra = {key: task.labels[key] for key in constraint.match_label_keys if key in task.labels}
            spread.append((Choice(normalise(constraint.label_selector, extra), own), constraint))
        affinity: list[_Term] = []
        anti: list[_Term] = []
        preferred: list[tuple[_Term, float]] = []

        def term_of(term: PodAffinityTerm) -> _Term:
            bound = choice_of_term(term, task.labels, namespaces.of_term(term, task.namespace))
            return _Term(Choice(bound.selector, namespaces.sought_by(term, task.namespace)), bound, term.topology_key)

        if task.affinity is not None:
            for side, required, sign in (
                (task.affinity.pod_affinity, affinity, 1.0),
                (task.affinity.pod_anti_affinity, anti, -1.0),
            ):
                if side is None:
                    continue
                required += [term_of(term) for term in side.required_during_scheduling_ignored_during_execution]
                preferred += [
                    (term_of(item.pod_affinity_term), sign * item.weight)
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
        yield from (choice.selector for choice, _ in self.hard_spread)
        yield from (choice.selector for choice, _ in self.soft_spread)
        yield from (term.bound.selector for term in self.affinity)
        yield from (term.bound.selector for term in self.anti_affinity)
        yield from (term.bound.selector for term, _ in self.preferred)


class Rulebook:
    """Compiles the rules of a problem.

    Parameters
    ----------
    problem
        The problem.

    Attributes
    ----------
    rules
        One for each index of rules. Those of fixed tasks alone say what they mean to others, and which nodes their own
        selectors admit, but not which nodes others leave to them.
    index
        The nodes by label and taint.
    """

    def __init__(self, problem: Problem) -> None:
        self.index = NodeIndex(problem.nodes)
        self._closed = problem.closed
        self._tallies: dict[Hashable, _Tally] = {}
        self._static: dict[Hashable, tuple[BoolArray, FloatArray | None, FloatArray | None, BoolArray]] = {}
        written = problem.rules
        asking = {problem.classes[number].rules for number in set(problem.class_of)}
        namespaces = Namespaces({rules.namespace for rules in written}, problem.namespaces)
        terms = [_Terms.of(rules, namespaces, asking=i in asking) for i, rules in enumerate(written)]
        self._groups = LabelGroups(written, [selector for item in terms for selector in item.selectors()])
        self._askers = frozenset(self._groups.group_of[number] for number in asking)
        # What is told, and what is asked, by the group of a task's labels; and what is told by the port taken.
        self._told: dict[int, list[tuple[_Tally, float]]] = {}
        self._told_port: dict[Port, list[tuple[_Tally, float]]] = {}
        self._asked_avoiding: dict[int, list[Presence]] = {}
        self._asked_company: dict[int, list[Counts]] = {}
        self.rules = [
            self._asker(i, rules, item) if i in asking else Rule(rules, self._static_of(rules)[0], None, None)
            for i, (rules, item) in enumerate(zip(written, terms, strict=True))
        ]
        for rule, item in zip(self.rules, terms, strict=True):
            self._ask_of_others(rule, item)
        for number, rule in enumerate(self.rules):
            group = self._groups.group_of[number]
            rule.tallies += self._told.get(group, ())
            for port in _spellings(rule.written.ports):
                rule.tallies += self._told_port.get(port, ())
            if number in asking:
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

    def _asker(self, number: int, task: Rules, terms: _Terms) -> Rule:
        """Compile the rules of tasks that are to be placed."""
        static, unpreferred, preference, affine = self._static_of(task)
        rule = Rule(task, static, unpreferred, preference)
        group = self._groups.group_of[number]
        self._add_spread(rule, terms, affine, group)
        self._add_affinity(rule, terms, group)
        for choice, _, key in terms.anti_affinity:
            make = partial(Presence, self._topology(key))
            rule.avoided.append(self._register(("near", choice, key), self._groups.chosen(choice), make))
        for (choice, _, key), weight in terms.preferred:
            count = partial(Counts, self._topology(key))
            rule.company.append((self._register(("count", choice, key), self._groups.chosen(choice), count), weight))
        rule.ports = [self._taken(port) for port in _conflicting(task.ports)]
        return rule

    def _ask_of_others(self, rule: Rule, terms: _Terms) -> None:
        """Compile what placed tasks want of those that come after them."""
        for _, choice, key in terms.anti_affinity:
            self._owned(rule, choice, key)
        for _, choice, key in terms.affinity:
            self._wished(rule, choice, key, _HARD_AFFINITY_WEIGHT)
        for (_, choice, key), weight in terms.preferred:
            self._wished(rule, choice, key, weight)

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
            for choice, constraint in pairs:
                eligible = has_keys.copy()
                if constraint.node_affinity_policy == "Honor":
                    eligible &= affine
                if constraint.node_taints_policy == "Honor":
                    eligible &= ~self.index.untolerated(rule.written.tolerations)
                topology = self._topology(constraint.topology_key)
                key = (choice, constraint.topology_key, np.packbits(eligible).tobytes())
                # An empty selector chooses every task, and yet kube-scheduler counts none for it.
                counted = self._groups.staying(choice) if choice.selector else frozenset()
                if constraint.when_unsatisfiable == "ScheduleAnyway":
                    soft = self._register(("soft spread", *key), counted, partial(Counts, topology, eligible))
                    rule.soft_spread.append((soft, constraint.max_skew))
                    continue
                hard = self._register(("hard spread", *key), counted, partial(SpreadCounts, topology, eligible))
                self_match = group in self._groups.chosen(choice)
                floor = constraint.min_domains or 1
                rule.spread.append(hard.check(self_match=self_match, max_skew=constraint.max_skew, min_domains=floor))

    def _add_affinity(self, rule: Rule, terms: _Terms, group: int) -> None:
        if not terms.affinity:
            return
        chosen = frozenset.intersection(*(self._groups.chosen(term.sought) for term in terms.affinity))
        keys = list(dict.fromkeys(term.key for term in terms.affinity))
        together = frozenset(term.sought for term in terms.affinity)
        presences = [
            self._register(("all", together, key), chosen, partial(Presence, self._topology(key))) for key in keys
        ]
        topologies = [self._topology(key) for key in keys]
        rule.companions = Companions(presences, topologies, self_match=group in chosen)

    def _owned(self, rule: Rule, choice: Choice, key: str) -> None:
        """Keep those that a placed task chooses out of its domain."""
        name = ("owner", choice, key)
        found = self._tallies.get(name)
        if found is None:
            asked = self._groups.chosen(choice) & self._askers
            if not asked:
                return
            found = self._tallies[name] = Presence(self._topology(key))
            for group in asked:
                self._asked_avoiding.setdefault(group, []).append(found)
        rule.tallies.append((found, 1.0))

    def _wished(self, rule: Rule, choice: Choice, key: str, weight: float) -> None:
        """Draw those that a placed task chooses into its domain, or drive them out."""
        name = ("wish", choice, key)
        found = self._tallies.get(name)
        if found is None:
            asked = self._groups.chosen(choice) & self._askers
            if not asked:
                return
            counts = found = self._tallies[name] = Counts(self._topology(key))
            for group in asked:
                self._asked_company.setdefault(group, []).append(counts)
        rule.tallies.append((found, weight))

    def _taken(self, port: Port) -> Presence:
        """Return the nodes on which a task takes a port in this spelling."""
        found = self._tallies.get(port)
        if not isinstance(found, Presence):
            found = self._tallies[port] = Presence(self.index.single)
            self._told_port.setdefault(port, []).append((found, 1.0))
        return found

    def _register(self, name: Hashable, chosen: Iterable[int], make: Callable[[], _T]) -> _T:
        found = self._tallies.get(name)
        if found is None:
            found = self._tallies[name] = make()
            for group in chosen:
                self._told.setdefault(group, []).append((found, 1.0))
        return found  # type: ignore[return-value]

    def _topology(self, key: str) -> Topology:
        return self.index.topology(key)


_ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - a pod's hostIP, nothing is bound to it
_ANY = ""
"""In place of an address: on whichever."""


def _spellings(ports: Iterable[Port]) -> set[Port]:
    """Return under which names a task's ports are found by others."""
    return {Port(ip, port.protocol, port.port) for port in ports for ip in (_ANY, port.ip)}


def _conflicting(ports: Iterable[Port]) -> list[Port]:
    """Return what must be free: ``HostPortInfo.CheckConflict`` of kube-scheduler.

    A port on all addresses conflicts with it on any address, one on an address with it there and on all.
    """
    wanted: dict[Port, None] = {}
    for port in ports:
        for ip in (_ANY,) if port.ip == _ALL_ADDRESSES else (_ALL_ADDRESSES, port.ip):
            wanted[Port(ip, port.protocol, port.port)] = None
    return list(wanted)
