"""Which tasks a label selector chooses, for many selectors and many kinds of labels at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from engine_ops.engine.scheduling.rules import Affinity, LabelSelector, PodAffinityTerm, TopologySpreadConstraint

Requirement = tuple[str, str, tuple[str, ...]]
"""Key, operator, sorted values."""

Selector = tuple[Requirement, ...]
"""Sorted requirements, all of which must hold. The empty one chooses every task."""


def normalise(selector: LabelSelector | None, extra: Mapping[str, str] | None = None) -> Selector | None:
    """Return the selector in one spelling; None for an absent one, which chooses nothing.

    Parameters
    ----------
    selector
        As written.
    extra
        Labels required besides (``matchLabelKeys``).
    """
    if selector is None:
        return None
    requirements: set[Requirement] = {(key, "In", (value,)) for key, value in selector.match_labels.items()}
    requirements |= {(key, "In", (value,)) for key, value in (extra or {}).items()}
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


class LabelGroups:
    """Tasks with equal labels, as far as any selector looks at them, are one group.

    Parameters
    ----------
    labels
        The labels of each kind of task.
    selectors
        Every selector that will be asked about.
    """

    def __init__(self, labels: Sequence[Mapping[str, str]], selectors: Iterable[Selector | None]) -> None:
        distinct = {selector for selector in selectors if selector is not None}
        keys = {key for selector in distinct for key, _, _ in selector}
        index: dict[tuple[tuple[str, str], ...], int] = {}
        self.group_of: list[int] = []
        """The group of each kind of task."""
        seen: list[dict[str, str]] = []
        for item in labels:
            relevant = {key: value for key, value in item.items() if key in keys}
            number = index.setdefault(tuple(sorted(relevant.items())), len(seen))
            if number == len(seen):
                seen.append(relevant)
            self.group_of.append(number)
        by_label: dict[tuple[str, str], list[int]] = {}
        for number, relevant in enumerate(seen):
            for label in relevant.items():
                by_label.setdefault(label, []).append(number)
        everyone = range(len(seen))
        self._chosen: dict[Selector, frozenset[int]] = {}
        for selector in distinct:
            candidates: Sequence[int] = everyone
            # One label that must have one of few values leaves few groups to look at.
            for key, operator, values in selector:
                if operator == "In":
                    found = [group for value in values for group in by_label.get((key, value), ())]
                    candidates = min(candidates, found, key=len)
            self._chosen[selector] = frozenset(group for group in candidates if matches(selector, seen[group]))

    def chosen(self, selector: Selector | None) -> frozenset[int]:
        """Return the groups that a selector chooses."""
        return frozenset() if selector is None else self._chosen[selector]
