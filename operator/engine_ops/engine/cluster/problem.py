"""From a snapshot of a cluster to a scheduling problem: which pods are placed, and which are there already."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from engine_ops.engine.cluster.live_rules import LiveRules, read_rules
from engine_ops.engine.cluster.records import ClusterSnapshot, PodKind
from engine_ops.engine.cluster.selecting import PodFilter, check_selection, namespace_labels, selected_nodes
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.engine.scheduling.model import Task
from engine_ops.engine.scheduling.problem import IntArray, Problem, TaskClass
from engine_ops.engine.scheduling.selectors import label_keys
from engine_ops.engine.scheduling.subjects import NodeRef, Port, Rules, TaskRef
from engine_ops.engine.units import request_units


@dataclasses.dataclass(frozen=True, slots=True)
class Unmodelled:
    """A pending pod that is left unplaced because the engine does not model all of it.

    Parameters
    ----------
    id
        ``namespace/name``.
    features
        What is not modelled.
    """

    id: str
    features: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why it is not placed, as results say it."""
        return f"not modelled: {', '.join(self.features)}"


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterProblem:
    """A problem, and what its numbers stand for.

    Parameters
    ----------
    problem
        Nodes are in the snapshot's order.
    task_rows
        The pod of each task, an index of ``ClusterSnapshot.pods``; -1 for a task that is no pod of the snapshot.
    current
        The node that each task is on, by index; -1 for none.
    fixed_rows
        The pod of each of ``problem.fixed``.
    unmodelled
        Pending pods that were chosen but cannot be placed.
    not_modelled
        What of the cluster's pods is not modelled: ``{feature, pods, example}``, for results.
    cluster
        ``{nodes, pods, pending}``: how many the snapshot has, for results.
    usable_nodes
        How many nodes may be used.
    """

    problem: Problem
    task_rows: Sequence[int]
    current: Sequence[int]
    fixed_rows: Sequence[int]
    unmodelled: Sequence[Unmodelled]
    not_modelled: Sequence[Mapping[str, Any]]
    cluster: Mapping[str, int]
    usable_nodes: int

    @property
    def node_names(self) -> list[str]:
        """The nodes' names, in the order of the problem."""
        return [node.id for node in self.problem.nodes]


@dataclasses.dataclass(frozen=True, slots=True)
class GivenTask:
    """A task that is no pod of the snapshot.

    Parameters
    ----------
    ref
        Its name and priority.
    requests
        Units by resource.
    rules
        Where it may go.
    """

    ref: TaskRef
    requests: Mapping[str, int]
    rules: Rules

    @classmethod
    def of_task(cls, task: Task, rules: Rules) -> GivenTask:
        """Return a task that a user wrote; like tasks share their rules."""
        amounts = {"cpu": task.cpu_required, "memory": task.memory_required, **task.resources_required}
        requests = {name: request_units(name, amount) for name, amount in amounts.items()}
        return cls(TaskRef(task.id, task.priority), requests, rules)


def placement_problem(
    snapshot: ClusterSnapshot, selection: ClusterSelection, given: Sequence[GivenTask] | None = None
) -> ClusterProblem:
    """Return the problem of placing tasks while every pod on a node stays where it is.

    Parameters
    ----------
    snapshot
        The cluster.
    selection
        Which nodes may be used and which pending pods are placed: in the order of kube-scheduler's queue, by priority,
        then by age.
    given
        Tasks to place instead of the pending pods.

    Raises
    ------
    InvalidDataError
        If a field selector is wrong.
    """
    builder = _Builder(snapshot, selection)
    fixed = [(row, node) for row, node in enumerate(builder.node_of) if node >= 0]
    if given is not None:
        return builder.build_given(given, fixed)
    rows, unmodelled = [], []
    for row, pod in enumerate(snapshot.pods):
        # kube-scheduler passes over a pending pod that is being deleted.
        if pod.node or pod.terminating or not builder.chosen.chooses(pod):
            continue
        features = builder.features[pod.kind]
        if features:
            unmodelled.append(Unmodelled(snapshot.pod_id(pod), features))
        else:
            rows.append(row)
    rows.sort(key=lambda row: (-builder.kind_of(row).priority, snapshot.pods[row].created))
    return builder.build(rows, fixed, unmodelled)


def repacking_problem(snapshot: ClusterSnapshot, selection: ClusterSelection) -> ClusterProblem:
    """Return the problem of placing the running pods anew.

    Tasks are the pods that may move: running on a node that may be used, selected, modelled, neither a DaemonSet's nor
    static nor terminating. The others are fixed.

    Parameters
    ----------
    snapshot
        The cluster.
    selection
        Which nodes may be used and which pods may move.

    Raises
    ------
    InvalidDataError
        If a field selector is wrong.
    """
    builder = _Builder(snapshot, selection)
    movable = [
        chosen and not (kind.daemon or kind.static or features)
        for chosen, kind, features in zip(builder.chosen.kinds, snapshot.kinds, builder.features, strict=True)
    ]
    rows, fixed = [], []
    usable = builder.usable.tolist()
    for row, (pod, node) in enumerate(zip(snapshot.pods, builder.node_of, strict=True)):
        if node < 0:
            continue
        if movable[pod.kind] and not pod.terminating and usable[node] and builder.chosen.chooses(pod):
            rows.append(row)
        else:
            fixed.append((row, node))
    return builder.build(rows, fixed, ())


class _Builder:
    """What both problems need. Everything is worked out for kinds of pods; pods only look it up."""

    def __init__(self, snapshot: ClusterSnapshot, selection: ClusterSelection) -> None:
        check_selection(selection)
        self.snapshot = snapshot
        self.usable = np.array(selected_nodes(snapshot, selection.nodes), bool)
        self.chosen = PodFilter(snapshot, selection.pods)
        index = {node.name: number for number, node in enumerate(snapshot.nodes)}
        # A pod on a node that is not there is in nobody's way; kube-scheduler does not see it either.
        self.node_of = [index.get(pod.node, -1) if pod.node else -1 for pod in snapshot.pods]
        self.read = [read_rules(kind.rules) for kind in snapshot.kinds]
        self.features = [
            tuple(sorted({*kind.not_modelled, *read.unread})) if read.unread else tuple(kind.not_modelled)
            for kind, read in zip(snapshot.kinds, self.read, strict=True)
        ]

    def kind_of(self, row: int) -> PodKind:
        return self.snapshot.kinds[self.snapshot.pods[row].kind]

    def build(
        self, rows: Sequence[int], fixed: Sequence[tuple[int, int]], unmodelled: Sequence[Unmodelled]
    ) -> ClusterProblem:
        """Build the problem of placing pods of the snapshot."""
        pods, kinds = self.snapshot.pods, self.snapshot.kinds
        asking = {pods[row].kind for row in rows}
        resources = self._resources(kinds[number].requests for number in asking)
        keys = label_keys(_with_company(self.read))
        classes = _Classes(resources, keys)
        class_of = [classes.of_pod(kinds[pods[row].kind], self.read[pods[row].kind], pods[row].kind) for row in rows]
        tasks = [TaskRef(self.snapshot.pod_id(pods[row]), kinds[pods[row].kind].priority) for row in rows]
        return self._finish(classes, tasks, class_of, rows, fixed, unmodelled)

    def build_given(self, given: Sequence[GivenTask], fixed: Sequence[tuple[int, int]]) -> ClusterProblem:
        """Build the problem of placing tasks that are not in the snapshot."""
        resources = self._resources(task.requests for task in given)
        distinct = {id(task.rules): task.rules for task in given}
        keys = label_keys([*_with_company(self.read), *distinct.values()])
        classes = _Classes(resources, keys)
        class_of = [classes.of(task.requests, classes.rule(task.rules)) for task in given]
        tasks = [task.ref for task in given]
        return self._finish(classes, tasks, class_of, [-1] * len(tasks), fixed, ())

    def _resources(self, asked: Iterable[Mapping[str, int]]) -> tuple[str, ...]:
        """Name what tasks ask for, and what else is both offered and taken: that only an explanation shows."""
        names = {name for requests in asked for name, units in requests.items() if units > 0}
        taken = {name for kind in self.snapshot.kinds for name in kind.requests}
        names |= taken.intersection({name for node in self.snapshot.nodes for name in node.allocatable})
        return ("cpu", "memory", *sorted(names - {"cpu", "memory", "pods"}))

    def _finish(
        self,
        classes: _Classes,
        tasks: Sequence[TaskRef],
        class_of: Sequence[int],
        rows: Sequence[int],
        fixed: Sequence[tuple[int, int]],
        unmodelled: Sequence[Unmodelled],
    ) -> ClusterProblem:
        snapshot = self.snapshot
        placed = []
        for row, node in fixed:
            pod = snapshot.pods[row]
            number = classes.of_pod(snapshot.kinds[pod.kind], self.read[pod.kind], pod.kind, going=pod.terminating)
            placed.append((number, node))
        capacity = self._capacity(classes.resources)
        problem = Problem(
            tasks=tasks,
            nodes=[NodeRef(node.name, node.labels, node.taints, node.unschedulable) for node in snapshot.nodes],
            percent=False,
            resources=classes.resources,
            capacity=capacity,
            load=np.zeros_like(capacity),
            places=np.array([node.allocatable.get("pods", 0) for node in snapshot.nodes], np.int64),
            classes=classes.classes,
            class_of=class_of,
            rules=classes.rules,
            fixed=placed,
            closed=None if self.usable.all() else ~self.usable,
            namespaces=namespace_labels(snapshot),
        )
        return ClusterProblem(
            problem=problem,
            task_rows=rows,
            current=[self.node_of[row] if row >= 0 else -1 for row in rows],
            fixed_rows=[row for row, _ in fixed],
            unmodelled=unmodelled,
            not_modelled=self._not_modelled(),
            cluster={
                "nodes": len(snapshot.nodes),
                "pods": len(snapshot.pods),
                "pending": sum(not pod.node for pod in snapshot.pods),
            },
            usable_nodes=int(self.usable.sum()),
        )

    def _capacity(self, resources: Sequence[str]) -> IntArray:
        rows = [[node.allocatable.get(name, 0) for node in self.snapshot.nodes] for name in resources]
        return np.array(rows, np.int64).reshape(len(resources), len(self.snapshot.nodes))

    def _not_modelled(self) -> list[Mapping[str, Any]]:
        if not any(self.features):
            return []
        found: dict[str, tuple[int, str]] = {}
        for pod in self.snapshot.pods:
            for feature in self.features[pod.kind]:
                count, example = found.get(feature, (0, ""))
                found[feature] = (count + 1, example or self.snapshot.pod_id(pod))
        return [{"feature": name, "pods": count, "example": id_} for name, (count, id_) in sorted(found.items())]


def _with_company(read: Iterable[LiveRules]) -> Iterable[LiveRules]:
    """Return the distinct rules that look at labels of pods."""
    return {
        id(rules): rules for rules in read if rules.affinity is not None or rules.topology_spread_constraints
    }.values()


class _Classes:
    """Numbers rules and classes. Labels that no selector looks at make no difference."""

    def __init__(self, resources: tuple[str, ...], keys: frozenset[str]) -> None:
        self.resources = resources
        self.classes: list[TaskClass] = []
        self.rules: list[Rules] = []
        self._keys = keys
        self._class_index: dict[tuple[int, ...], int] = {}
        self._rule_index: dict[Any, int] = {}
        self._rule_of_given: dict[int, int] = {}
        self._of_kind: dict[tuple[int, bool], int] = {}

    def of_pod(self, kind: PodKind, read: LiveRules, number: int, *, going: bool = False) -> int:
        """Return the class of pods of a kind."""
        found = self._of_kind.get((number, going))
        if found is None:
            found = self._of_kind[number, going] = self.of(kind.requests, self._rule_of_kind(kind, read, going=going))
        return found

    def of(self, requests: Mapping[str, int], rule: int) -> int:
        """Return the class of tasks with these requests and rules."""
        units = [requests.get(name, 0) for name in self.resources]
        return self._number(self._class_index, (rule, *units), self.classes, lambda: TaskClass.of(units, rule))

    def rule(self, rules: Rules) -> int:
        """Return the number of rules that a user wrote; one object has one number."""
        found = self._rule_of_given.get(id(rules))
        if found is None:
            found = self._rule_of_given[id(rules)] = len(self.rules)
            self.rules.append(rules)
        return found

    def _rule_of_kind(self, kind: PodKind, read: LiveRules, *, going: bool) -> int:
        labels = {key: value for key, value in kind.labels.items() if key in self._keys}
        key = (kind.namespace, kind.rules, kind.host_ports, going, tuple(sorted(labels.items())))

        def make() -> Rules:
            return Rules(
                namespace=kind.namespace,
                labels=labels,
                node_selector=read.node_selector,
                affinity=read.affinity,
                tolerations=read.tolerations,
                topology_spread_constraints=read.topology_spread_constraints,
                ports=[Port(port.ip, port.protocol, port.port) for port in kind.host_ports],
                terminating=going,
            )

        return self._number(self._rule_index, key, self.rules, make)

    @staticmethod
    def _number(index: dict[Any, int], key: Any, items: list[Any], make: Any) -> int:
        found = index.get(key)
        if found is None:
            found = index[key] = len(items)
            items.append(make())
        return found
