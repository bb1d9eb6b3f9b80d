"""Which tasks a label selector chooses, for many selectors and many kinds of labels at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol

from engine_ops.engine.scheduling.rules import Affinity, LabelSelector, PodAffinityTerm, TopologySpreadConstraint
from engine_ops.engine.scheduling.subjects import Rules

Requirement = tuple[str, str, tuple[str, ...]]
"""Key, operator, sorted values."""

Selector = tuple[Requirement, ...]
"""Sorted requirements, all of which must hold. The empty one chooses every task."""


Scope = frozenset[str] | None
"""Names of namespaces; None for all."""


class Choice(NamedTuple):
    """Which tasks a term chooses: by their labels, in some namespaces."""

    selector: Selector | None
    scope: Scope


def normalise(
    selector: LabelSelector | None,
    extra: Mapping[str, str] | None = None,
    excluded: Mapping[str, str] | None = None,
) -> Selector | None:
    """Return the selector in one spelling; None for an absent one, which chooses nothing.

    Parameters
    ----------
    selector
        As written.
    extra, excluded
        Labels required, or not allowed, besides (``matchLabelKeys``, ``mismatchLabelKeys``).
    """
    if selector is None:
        return None
    requirements: set[Requirement] = {(key, "In", (value,)) for key, value in selector.match_labels.items()}
    requirements |= {(key, "In", (value,)) for key, value in (extra or {}).items()}
    requirements |= {(key, "NotIn", (value,)) for key, value in (excluded or {}).items()}
    requirements |= {(e.key, e.operator, tuple(sorted(set(e.values)))) for e in selector.match_expressions}
    return tuple(sorted(requirements))


def matches(selector: Selector | None, labels: Mapping[str, str]) -> bool:
    """Whether a selector chooses a task with these labels."""
    return selector is not None and all(_holds(requirement, labels) for requirement in selector)


def _holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    key, operator, values = requirement
    match operator:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels


class LooksAtLabels(Protocol):
    """Rules of a kind of task, as far as they look at the labels of others."""

    @property
    def affinity(self) -> Affinity | None:
        """As in a pod's spec."""

    @property
    def topology_spread_constraints(self) -> Sequence[TopologySpreadConstraint]:
        """As in a pod's spec."""


def affinity_terms(affinity: Affinity | None) -> Iterator[PodAffinityTerm]:
    """Go through the terms, required and preferred, of affinity and anti-affinity to other tasks."""
    if affinity is None:
        return
    for side in (affinity.pod_affinity, affinity.pod_anti_affinity):
        if side is not None:
            yield from side.required_during_scheduling_ignored_during_execution
            for item in side.preferred_during_scheduling_ignored_during_execution:
                yield item.pod_affinity_term


def label_keys(rules: Iterable[LooksAtLabels]) -> frozenset[str]:
    """Return the keys of all labels of tasks that rules look at."""
    keys: set[str] = set()
    for item in rules:
        selectors = []
        for term in affinity_terms(item.affinity):
            keys.update(term.match_label_keys, term.mismatch_label_keys)
            selectors.append(term.label_selector)
        for constraint in item.topology_spread_constraints:
            keys.update(constraint.match_label_keys)
            selectors.append(constraint.label_selector)
        for selector in selectors:
            if selector is not None:
                keys.update(selector.match_labels)
                keys.update(expression.key for expression in selector.match_expressions)
    return frozenset(keys)


def choice_of_term(term: PodAffinityTerm, labels: Mapping[str, str], scope: Scope) -> Choice:
    """Return which tasks a term of (anti-)affinity chooses.

    Parameters
    ----------
    term
        As written. The API server adds ``matchLabelKeys`` and ``mismatchLabelKeys`` to ``labelSelector`` when a pod is
        created, and kube-scheduler looks at the selector only: what has been added is not added again, so that a label
        changed later makes no difference. For a task that a user wrote, or a template, it is added here.
    labels
        Of the task whose term it is.
    scope
        Its namespaces.
    """
    selector = term.label_selector
    if selector is None or not (term.match_label_keys or term.mismatch_label_keys):
        return Choice(normalise(selector), scope)
    added = {(expression.key, expression.operator) for expression in selector.match_expressions}
    extra = {k: labels[k] for k in term.match_label_keys if k in labels and (k, "In") not in added}
    excluded = {k: labels[k] for k in term.mismatch_label_keys if k in labels and (k, "NotIn") not in added}
    return Choice(normalise(selector, extra, excluded), scope)


class Namespaces:
    """Which namespaces a term is about, among those that have tasks.

    Parameters
    ----------
    present
        Namespaces with tasks.
    labels
        The labels of each namespace.
    """

    def __init__(self, present: Iterable[str], labels: Mapping[str, Mapping[str, str]]) -> None:
        self._present = frozenset(present)
        self._labels = labels

    def own(self, namespace: str) -> Scope:
        """Return the scope of one namespace."""
        return self._scope({namespace})

    def sought_by(self, term: PodAffinityTerm, namespace: str) -> Scope:
        """Return where a task in ``namespace`` that is to be placed looks for those that its own term chooses.

        kube-scheduler 1.36 means to replace the term's ``namespaceSelector`` by the namespaces that it chooses, but
        ``mergeAffinityTermNamespacesIfNotEmpty`` changes a copy: the selector stays, and is held against no labels at
        all. One that no labels satisfy (NotIn, DoesNotExist) thus finds tasks in every namespace.
        """
        if term.namespace_selector is not None and matches(normalise(term.namespace_selector), {}):
            return None
        return self.of_term(term, namespace)

    def of_term(self, term: PodAffinityTerm, namespace: str) -> Scope:
        """Return the scope of a term of (anti-)affinity of a task in ``namespace``."""
        if term.namespace_selector is None:
            return self._scope(term.namespaces or {namespace})
        wanted = normalise(term.namespace_selector)
        if wanted == ():
            return None
        found = {name for name in self._present if matches(wanted, self._labels.get(name, {}))}
        return self._scope(found.union(term.namespaces))

    def _scope(self, names: Iterable[str]) -> Scope:
        # What is no different for the tasks at hand is spelled alike.
        scope = self._present.intersection(names)
        return None if scope == self._present else scope


class LabelGroups:
    """Tasks of one namespace with equal labels, as far as any selector looks at them, are one group.

    Those on their way out are groups of their own.

    Parameters
    ----------
    rules
        Each kind of task.
    selectors
        Every selector that will be asked about.
    """

    def __init__(self, rules: Sequence[Rules], selectors: Iterable[Selector | None]) -> None:
        distinct = {selector for selector in selectors if selector is not None}
        keys = {key for selector in distinct for key, _, _ in selector}
        index: dict[tuple[Any, ...], int] = {}
        self.group_of: list[int] = []
        """The group of each kind of task."""
        seen: list[dict[str, str]] = []
        in_namespace: dict[str, set[int]] = {}
        terminating: set[int] = set()
        for item in rules:
            relevant = {key: value for key, value in item.labels.items() if key in keys}
            name = (item.namespace, item.terminating, *sorted(relevant.items()))
            number = index.setdefault(name, len(seen))
            if number == len(seen):
                seen.append(relevant)
                in_namespace.setdefault(item.namespace, set()).add(number)
                if item.terminating:
                    terminating.add(number)
            self.group_of.append(number)
        by_label: dict[tuple[str, str], list[int]] = {}
        for number, relevant in enumerate(seen):
            for label in relevant.items():
                by_label.setdefault(label, []).append(number)
        everyone = range(len(seen))
        self._in_namespace = in_namespace
        self._terminating = frozenset(terminating)
        self._scoped: dict[Choice, frozenset[int]] = {}
        self._chosen: dict[Selector, frozenset[int]] = {}
        for selector in distinct:
            candidates: Sequence[int] = everyone
            # One label that must have one of few values leaves few groups to look at.
            for key, operator, values in selector:
                if operator == "In":
                    found = [group for value in values for group in by_label.get((key, value), ())]
                    candidates = min(candidates, found, key=len)
            self._chosen[selector] = frozenset(group for group in candidates if matches(selector, seen[group]))

    def chosen(self, choice: Choice) -> frozenset[int]:
        """Return the groups that a term chooses."""
        if choice.selector is None:
            return frozenset()
        by_labels = self._chosen[choice.selector]
        if choice.scope is None:
            return by_labels
        found = self._scoped.get(choice)
        if found is None:
            members = (self._in_namespace.get(name, ()) for name in choice.scope)
            found = self._scoped[choice] = by_labels.intersection(chain.from_iterable(members))
        return found

    def staying(self, choice: Choice) -> frozenset[int]:
        """Return the groups that a term chooses, without tasks on their way out."""
        return self.chosen(choice) - self._terminating
