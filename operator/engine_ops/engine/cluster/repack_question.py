"""The question of a repacking: which pods may move, where each one is, and which nodes are in use in any case."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from engine_ops.engine.cluster.problem import ClusterProblem
from engine_ops.engine.cluster.records import ClusterSnapshot
from engine_ops.engine.cluster.repack_devices import PodDevices, infer_devices
from engine_ops.engine.scheduling.problem import BoolArray, FloatArray, Problem


@dataclasses.dataclass(frozen=True, slots=True)
class RepackQuestion:
    """Pods that run, some of which may move.

    Parameters
    ----------
    problem
        Its tasks are the pods that may move; the others are ``fixed``. No node's ``load`` has any of them.
    home
        The node of each task now.
    held
        Nodes that hold a pod which stays and does not come with the node: they are in use whatever moves.
    devices
        The devices that pods have now.
    """

    problem: Problem
    home: Sequence[int]
    held: BoolArray
    devices: PodDevices

    def receivers(self) -> BoolArray:
        """Return the nodes that may take pods: a cordoned one is on its way out, even for pods that tolerate that."""
        nodes = self.problem.nodes
        return ~np.fromiter((node.unschedulable for node in nodes), bool, len(nodes))

    def in_use(self, node_of: Sequence[int]) -> BoolArray:
        """Return the nodes that are in use when each task is on the given node."""
        used = self.held.copy()
        used[np.asarray(node_of, np.int64)] = True
        return used

    def class_sizes(self) -> FloatArray:
        """Return one number for each class: its requests weighted by how scarce each resource is.

        A resource weighs what the pods that may move ask of it in parts of all there is. Sizes are in parts of the
        largest node, and above 0.
        """
        problem = self.problem
        requests = np.array([c.requests for c in problem.classes], np.float64).reshape(-1, len(problem.resources))
        return np.maximum(requests @ self.weights(), 1e-9)

    def weights(self) -> FloatArray:
        """Return the weight of one unit of each resource; see `class_sizes`."""
        problem = self.problem
        counts = np.bincount(np.asarray(problem.class_of, np.int64), minlength=len(problem.classes))
        requests = np.array([c.requests for c in problem.classes], np.float64).reshape(-1, len(problem.resources))
        capacity = np.maximum(problem.capacity - problem.load, 0).astype(np.float64)
        largest = np.maximum(capacity.max(axis=1, initial=0.0), 1.0)
        scarcity = (counts @ requests) / np.maximum(capacity.sum(axis=1), 1.0)
        result: FloatArray = scarcity / max(float(scarcity.max(initial=0.0)), 1e-12) / largest
        return result


def question_of(cluster: ClusterProblem, snapshot: ClusterSnapshot) -> RepackQuestion:
    """Return the question of repacking the pods of a cluster.

    A node is held by a pod that stays but is no DaemonSet's and not static. Nodes that may not be used are not part of
    the question: they are never held, and nothing on them moves.

    Parameters
    ----------
    cluster
        From `engine_ops.engine.cluster.problem.repacking_problem`.
    snapshot
        What it was made from.
    """
    held = np.zeros(len(cluster.problem.nodes), bool)
    for row, (_, node) in zip(cluster.fixed_rows, cluster.problem.fixed, strict=True):
        kind = snapshot.kinds[snapshot.pods[row].kind]
        held[node] |= not (kind.daemon or kind.static)
    if cluster.problem.closed is not None:
        held &= ~cluster.problem.closed
    return RepackQuestion(cluster.problem, list(cluster.current), held, infer_devices(cluster))
