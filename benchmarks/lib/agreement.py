"""Our answers about a cluster, repeated through kube-scheduler's filters."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine_ops.engine.cluster.decode import RecordDecoder
from engine_ops.engine.cluster.dump import read_dump
from engine_ops.engine.cluster.placement import ClusterPlacementSolver
from engine_ops.engine.cluster.problem import placement_problem
from engine_ops.engine.cluster.records import ClusterSnapshot
from engine_ops.engine.cluster.repacking import RepackingSolver
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.engine.contract import Budget, ignore_report
from engine_ops.engine.scheduling.rulebook import Rulebook
from engine_ops.engine.scheduling.state import State
from engine_ops.engine.units import base_amount
from lib.random_clusters import Cluster, is_pending, pod_id
from lib.random_rules import Document
from lib.scheduler_oracle import SchedulerOracle, Verdict

NOT_MODELLED: Final = "not modelled: "
_FOREVER_SECONDS: Final = 1e6


@dataclasses.dataclass(frozen=True, slots=True)
class Disagreement:
    """A point on which kube-scheduler and we differ.

    Parameters
    ----------
    kind
        ``refused``, ``missed``, ``differing``, ``stranded``, ``requests``, ``unlawful`` or ``lost``.
    pod
        ``namespace/name``.
    detail
        What either says.
    """

    kind: str
    pod: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.pod}: {self.detail}"


class Tally:
    """What was compared: counts for the table, and how often each filter bit."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.turns = 0
        self.closed: Counter[str] = Counter()
        """Pairs of a turn and a node that a plugin closed."""
        self.bit: Counter[str] = Counter()
        """Turns at which a plugin closed at least one node."""

    def turn(self, verdict: Verdict) -> None:
        """Count a pod's turn."""
        self.turns += 1
        plugins = Counter(status.partition(":")[0] for status in verdict.statuses.values())
        self.closed += plugins
        self.bit.update(plugins.keys())


def snapshot_of_cluster(cluster: Cluster) -> ClusterSnapshot:
    """Decode a cluster from its dump."""
    return read_dump(cluster.to_json().encode(), "cluster.json")


def compare_placement(cluster: Cluster, oracle: SchedulerOracle, tally: Tally, *, steps: int = 0) -> list[Disagreement]:
    """Place the pending pods, and repeat the answer in its order.

    Parameters
    ----------
    cluster
        The cluster.
    oracle
        Is loaded with it.
    tally
        Is added to.
    steps
        Of the search for a better answer.
    """
    found = compare_requests(cluster, oracle, tally)
    snapshot = snapshot_of_cluster(cluster)
    budget = Budget.of(_FOREVER_SECONDS, max_steps=steps)
    answer = ClusterPlacementSolver(snapshot, ClusterSelection()).solve({}, {}, budget, ignore_report)
    placements: Sequence[Mapping[str, Any]] = answer.result["placements"]
    waiting = {pod_id(pod): pod for pod in cluster.pods if is_pending(pod)}
    tally.counts["pending pods"] += len(waiting)
    named = {placement["taskId"] for placement in placements}
    found += [Disagreement("lost", id_, "is not in the answer") for id_ in sorted(waiting.keys() - named)]
    found += [Disagreement("lost", id_, "is not pending") for id_ in sorted(named - waiting.keys())]
    oracle.load(cluster.nodes, cluster.pods, cluster.namespaces)
    ours = OurSide(snapshot)
    left_out = []
    for placement in placements:
        id_ = placement["taskId"]
        reason = placement.get("reason", "")
        if reason.startswith(NOT_MODELLED):
            tally.counts["not modelled, not compared"] += 1
            continue
        node = placement.get("nodeId")
        if node is None:
            verdict = oracle.ask(waiting[id_])
            left_out.append(id_)
            tally.counts["left unplaced"] += 1
            if verdict.feasible:
                found.append(Disagreement("missed", id_, f"{reason!r}, but {verdict.feasible}"))
        else:
            verdict = oracle.place(waiting[id_], node)
            tally.counts["placed"] += 1
            if not verdict.accepted:
                found.append(Disagreement("refused", id_, f"on {node}: {verdict.statuses[node]}"))
        tally.turn(verdict)
        found += ours.compare(id_, verdict)
        if node is not None:
            ours.place(id_, node)
    for id_ in left_out:
        verdict = oracle.ask(waiting[id_])
        if verdict.feasible:
            found.append(Disagreement("stranded", id_, f"in the end {verdict.feasible} would do"))
        found += ours.compare(id_, verdict)
    return found


class OurSide:
    """Our own sets of feasible nodes, placement by placement.

    Parameters
    ----------
    snapshot
        The cluster.
    """

    def __init__(self, snapshot: ClusterSnapshot) -> None:
        problem = placement_problem(snapshot, ClusterSelection()).problem
        self._problem = problem
        self._state = State(problem, Rulebook(problem))
        self._tasks = {task.id: problem.classes[problem.class_of[i]] for i, task in enumerate(problem.tasks)}
        self._nodes = {node.id: i for i, node in enumerate(problem.nodes)}

    def compare(self, id_: str, verdict: Verdict) -> list[Disagreement]:
        """Return how our set differs from the scheduler's, all nodes considered."""
        feasible = self._state.feasible(self._tasks[id_])
        ours = {name for name, number in self._nodes.items() if feasible[number]}
        theirs = set(verdict.feasible)
        parts = []
        if ours - theirs:
            parts.append(f"only we accept { {name: verdict.statuses[name] for name in sorted(ours - theirs)} }")
        if theirs - ours:
            obstacles = [
                (reason, sorted(name for name in theirs - ours if closed[self._nodes[name]]))
                for reason, closed in self._state.obstacles(self._tasks[id_])
            ]
            parts.append(f"only we reject { {reason: names for reason, names in obstacles if names} }")
        return [Disagreement("differing", id_, "; ".join(parts))] if parts else []

    def place(self, id_: str, node: str) -> None:
        """Follow a placement."""
        self._state.place(self._tasks[id_], self._nodes[node])


def compare_requests(cluster: Cluster, oracle: SchedulerOracle, tally: Tally) -> list[Disagreement]:
    """Compare what each pod takes of a node with what the scheduler's NodeInfo counts for it."""
    decoder = RecordDecoder()
    found = []
    for pod in cluster.pods:
        record = decoder.pod(json.dumps(pod).encode())
        if record is None:
            continue
        ours = {name: base_amount(name, units) for name, units in record.kind.requests.items()}
        counted = oracle.requests(pod)
        # The scheduler's own unit for cpu is the milli-core.
        theirs = {name: amount / 1000 if name == "cpu" else amount for name, amount in counted.items() if amount}
        tally.counts["requests compared"] += 1
        if ours != theirs:
            found.append(Disagreement("requests", pod_id(pod), f"we count {ours}, it counts {theirs}"))
    return found


def compare_repacking(cluster: Cluster, oracle: SchedulerOracle, tally: Tally, *, steps: int = 0) -> list[Disagreement]:
    """Repack the running pods, and ask of each that has moved whether it could go where it is now.

    Parameters
    ----------
    cluster, oracle, tally, steps
        As of `compare_placement`.
    """
    snapshot = snapshot_of_cluster(cluster)
    budget = Budget.of(_FOREVER_SECONDS, max_steps=steps)
    result = RepackingSolver(snapshot, ClusterSelection()).solve({}, {}, budget, ignore_report).result
    tally.counts["nodes in use"] += result["currentNodeCount"]
    tally.counts["nodes in use after repacking"] += result["nodeCount"]
    places: dict[str, list[str]] = {}
    for node in result["nodes"]:
        for item in node["items"]:
            places.setdefault(item["id"], []).append(node["id"])
    names = {node["metadata"]["name"] for node in cluster.nodes}
    listed = {node["id"] for node in result["nodes"]}
    found, after, moved = [], [], []
    for pod in cluster.pods:
        home = pod["spec"].get("nodeName")
        if home not in names or pod["status"].get("phase") in {"Succeeded", "Failed"}:
            continue
        id_ = pod_id(pod)
        # Nodes with nothing but pods of DaemonSets, static and terminating ones are not in use, and not listed.
        now = places.pop(id_, [] if home in listed else [home])
        if len(now) != 1:
            found.append(Disagreement("lost", id_, f"of {home} is on {now}"))
            continue
        if now != [home]:
            moved.append(id_)
        after.append(_on(pod, now[0]))
    found += [Disagreement("lost", id_, f"does not run, but is on {nodes}") for id_, nodes in sorted(places.items())]
    tally.counts["pods moved by repacking"] += len(moved)
    oracle.load(cluster.nodes, after, cluster.namespaces)
    for id_ in moved:
        verdict = oracle.check(id_)
        if not verdict.accepted:
            found.append(Disagreement("unlawful", id_, str(dict(verdict.statuses))))
    return found


def _on(pod: Document, node: str) -> Document:
    moved = copy.copy(pod)
    moved["spec"] = pod["spec"] | {"nodeName": node}
    return moved
