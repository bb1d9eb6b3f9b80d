"""The solver of type ``resource`` on a live cluster: how few of its nodes would do for the pods that run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.engine.cluster.problem import repacking_problem
from engine_ops.engine.cluster.records import ClusterSnapshot
from engine_ops.engine.cluster.repack_answer import RepackContext, build_answer
from engine_ops.engine.cluster.repack_arrangement import Arrangement
from engine_ops.engine.cluster.repack_bound import RepackBound, lower_bound
from engine_ops.engine.cluster.repack_devices import keep_fixed
from engine_ops.engine.cluster.repack_emptying import empty_nodes
from engine_ops.engine.cluster.repack_explain import explain_all, explain_one_node, explain_one_task
from engine_ops.engine.cluster.repack_moving import settle, shorten
from engine_ops.engine.cluster.repack_question import question_of
from engine_ops.engine.cluster.repack_search import Emptying
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.engine.contract import Answer, Budget, Explanation, Report
from engine_ops.engine.scheduling.checks import load_given
from engine_ops.engine.scheduling.devices import Devices, with_devices
from engine_ops.engine.scheduling.model import SharedDevice
from engine_ops.engine.scheduling.rulebook import Rulebook
from engine_ops.engine.scheduling.state import State

AS_IT_IS = "as-it-is"
"""The algorithm's name where no node can be emptied."""
EMPTYING = "node-emptying"
"""Nodes are emptied one by one into the others in use."""
SEARCHED = "node-emptying+ruin-and-recreate"
"""A few nodes at a time were packed anew."""

_SHARED_DEVICES = "sharedDevices"
_STEPS_A_CHECK = 128
"""Attempts of the search between two looks at the whole."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Best:
    node_of: Sequence[int]
    devices: Sequence[Devices]
    value: tuple[int, int]
    algorithm: str


class RepackingSolver:
    """Empties as many nodes as it can by moving pods, and proves how far that is from the best.

    Nodes are counted that hold a pod which is neither a DaemonSet's nor static. Each pod that moves could be bound to
    its node by kube-scheduler when all others are where the answer has them; each that stays is where it is. The order
    of moves is not part of the answer. Of resources that come in devices each pod that moves has single devices to hold
    it; what runs already may be more than they hold, and stays.

    Parameters
    ----------
    snapshot
        The cluster.
    selection
        Which nodes count and may be used, and which pods may move.
    """

    def __init__(self, snapshot: ClusterSnapshot, selection: ClusterSelection) -> None:
        self._snapshot = snapshot
        self._selection = selection

    def solve(self, data: Mapping[str, Any], constraints: Mapping[str, Any], budget: Budget, report: Report) -> Answer:
        """Repack. See `engine_ops.engine.contract.Solver.solve`.

        The objective is the number of nodes in use; of two answers with as many nodes the one with fewer moves is the
        better one. Where no node can be emptied, the answer is the cluster as it is.

        Raises
        ------
        InvalidDataError
            If the selection is wrong, or there are data, or other constraints than ``sharedDevices``.
        """
        context, state = self._prepare(data, constraints)
        question = context.question
        bound = lower_bound(question, state)
        arrangement = Arrangement(question, state)
        best = _Best(list(question.home), question.devices.of_task, (arrangement.count, 0), AS_IT_IS)
        if arrangement.count > bound.nodes:
            empty_nodes(arrangement)
            best = _better(arrangement, best, EMPTYING)
        report(_told(context, best, bound))
        if best.value[0] > bound.nodes and budget.allows(0):
            best = self._search(context, arrangement, best, bound, budget, report)
        return _told(context, best, bound)()

    def _search(
        self,
        context: RepackContext,
        arrangement: Arrangement,
        best: _Best,
        bound: RepackBound,
        budget: Budget,
        report: Report,
    ) -> _Best:
        emptying = Emptying(arrangement, np.random.default_rng(budget.seed), bound.worth)
        step = 0
        while best.value[0] > bound.nodes and budget.allows(step):
            emptied = False
            for _ in range(_STEPS_A_CHECK):
                if arrangement.count <= bound.nodes or not budget.allows(step):
                    break
                emptied |= emptying.step()
                step += 1
            if not emptied:
                continue
            found = _better(arrangement, best, SEARCHED)
            if found is best:
                # A filter is against it in the end: begin again from what holds.
                arrangement.restore(best.node_of, best.devices)
            else:
                best = found
                report(_told(context, best, bound))
        return best

    def explain(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any]
    ) -> Explanation:
        """Explain an answer as a whole: a row for each type of node, and what the lower bound rests on.

        Raises
        ------
        InvalidDataError
            If the result does not belong to the cluster, or is a summary.
        """
        context, state = self._prepare(data, constraints)
        return explain_all(context, state, result)

    def explain_node(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any], node_id: str
    ) -> Explanation:
        """Explain what is on a node before and after.

        Raises
        ------
        InvalidDataError
            If there is no such node, or the result does not belong to the cluster.
        """
        context, state = self._prepare(data, constraints)
        return explain_one_node(context, state, result, node_id)

    def explain_task(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any], task_id: str
    ) -> Explanation:
        """Explain where a pod goes, and why not to other nodes.

        Raises
        ------
        InvalidDataError
            If no such pod is on a node, or the result does not belong to the cluster.
        """
        context, state = self._prepare(data, constraints)
        return explain_one_task(context, state, result, task_id)

    def _prepare(self, data: Mapping[str, Any], constraints: Mapping[str, Any]) -> tuple[RepackContext, State]:
        shared = _shared_devices(data, constraints)
        cluster = repacking_problem(self._snapshot, self._selection)
        cluster = dataclasses.replace(cluster, problem=with_devices(cluster.problem, shared))
        context = RepackContext(self._snapshot, cluster, question_of(cluster, self._snapshot))
        state = State(cluster.problem, Rulebook(cluster.problem))
        keep_fixed(state, context.question.devices)
        return context, state


def _shared_devices(data: Mapping[str, Any], constraints: Mapping[str, Any]) -> Sequence[SharedDevice]:
    """Return the resources that come in devices, the only thing that a request says of a repacking itself."""
    faults = [
        *(Fault(f"data.{name}", "a repacking takes its data from the cluster alone") for name in data),
        *(
            Fault(f"constraints.{name}", f"no constraint of a repacking; it has {_SHARED_DEVICES} alone")
            for name in constraints
            if name != _SHARED_DEVICES
        ),
    ]
    shared: Sequence[SharedDevice] = ()
    try:
        _, chosen = load_given({}, {name: value for name, value in constraints.items() if name == _SHARED_DEVICES})
        shared = chosen.shared_devices
    except InvalidDataError as error:
        faults += error.faults
    if faults:
        raise InvalidDataError(faults)
    return shared


def _better(arrangement: Arrangement, best: _Best, algorithm: str) -> _Best:
    """Bring an arrangement into order, and return it if it is better than the best so far; else the best."""
    shorten(arrangement)
    if not settle(arrangement):
        return best
    value = (arrangement.count, arrangement.moves)
    if value >= best.value:
        return best
    return _Best(list(arrangement.node_of), list(arrangement.devices), value, algorithm)


def _told(context: RepackContext, best: _Best, bound: RepackBound) -> partial[Answer]:
    return partial(build_answer, context, best.node_of, best.devices, bound, best.algorithm)
