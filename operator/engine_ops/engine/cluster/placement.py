"""The solver of type ``scheduling`` on a live cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.api.reasons import Reason
from engine_ops.engine.cluster.placement_tasks import given_tasks, workload_tasks
from engine_ops.engine.cluster.problem import ClusterProblem, placement_problem
from engine_ops.engine.cluster.records import ClusterSnapshot
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.engine.collecting import collection_paused
from engine_ops.engine.contract import Answer, Budget, Explanation, Report
from engine_ops.engine.scheduling.checks import load_given
from engine_ops.engine.scheduling.devices import with_devices
from engine_ops.engine.scheduling.explain import explain_many, explain_one
from engine_ops.engine.scheduling.explain_detail import Held, explain_node, explain_task
from engine_ops.engine.scheduling.model import Strategy
from engine_ops.engine.scheduling.placer import Placement
from engine_ops.engine.scheduling.rulebook import Rulebook
from engine_ops.engine.scheduling.search import improve
from engine_ops.engine.scheduling.solver import (
    ALGORITHM,
    first_placement,
    name_unplaced,
    placements_of,
    single_answer,
)
from engine_ops.engine.scheduling.state import State
from engine_ops.engine.scheduling.waiting import try_again

_NO_NODES = "no nodes available to schedule pods"


@dataclasses.dataclass(frozen=True, slots=True)
class PlacementQuestion:
    """A question, ready to be answered.

    Parameters
    ----------
    found
        The problem.
    state
        Nothing is placed but what is fixed.
    strategy
        What chooses.
    single
        Whether it is about one given task.
    what
        The tasks in plural, for messages.
    """

    found: ClusterProblem
    state: State
    strategy: Strategy
    single: bool
    what: str

    @property
    def left_out(self) -> dict[str, str]:
        """Why tasks are not placed that are not in the problem, by id."""
        return {item.id: item.reason for item in self.found.unmodelled}


class ClusterPlacementSolver:
    """Places pending pods, given tasks, or the pods that a workload lacks, on the nodes of a cluster.

    Every pod on a node stays where it is. The filters and scores are those of kube-scheduler 1.36, and so is the order:
    by priority, then by age; what had no node at its turn is tried again at the end. There is no preemption. A node
    that kube-scheduler would refuse is never chosen; what the engine does not model of a pending pod leaves it
    unplaced, and is named.

    Parameters
    ----------
    snapshot
        The cluster.
    selection
        Which nodes may be used, and which pods are placed.
    """

    def __init__(self, snapshot: ClusterSnapshot, selection: ClusterSelection) -> None:
        self.snapshot = snapshot
        self._selection = selection

    def solve(self, data: Mapping[str, Any], constraints: Mapping[str, Any], budget: Budget, report: Report) -> Answer:
        """Answer. See `engine_ops.engine.contract.Solver.solve`.

        Parameters
        ----------
        data
            ``{}`` for the pods that the selection chooses, or ``{task}`` or ``{tasks}``: given tasks, which count as
            pods of the request's namespace.
        constraints, budget, report
            As for `engine_ops.engine.scheduling.solver.SchedulingSolver`.

        Returns
        -------
        Answer
            ``result`` is ``{placements: [{taskId, nodeId | reason, devices?}], placedCount, unplacedCount, algorithm,
            notModelled: [{feature, pods, example}], cluster: {nodes, pods, pending}}``; for one given task as of
            `engine_ops.engine.scheduling.solver.SchedulingSolver`.
        """
        question = self.question(data, constraints)
        state, strategy = question.state, question.strategy
        if not state.problem.tasks or not state.problem.nodes:
            empty = _nowhere(state)
            return _single_nowhere(state, empty) if question.single else self.answer(question, empty)
        first = try_again(state, first_placement(state, strategy), strategy)
        if question.single:
            answer = single_answer(state, first)
            report(lambda: answer)
            return answer
        report(lambda: self.answer(question, first))
        best = improve(
            state, first, strategy, budget, lambda placement: report(lambda: self.answer(question, placement))
        )
        if best is not first:
            best = try_again(state, best, strategy)
        return self.answer(question, best)

    def explain(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any]
    ) -> Explanation:
        """Explain an answer by placing its tasks again, in its order and on its nodes."""
        question = self.question(data, constraints)
        if question.single:
            return explain_one(question.state, question.strategy, result)
        return explain_many(question.state, question.strategy, result, question.left_out)

    def explain_task(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any], task_id: str
    ) -> Explanation:
        """Explain what became of one task: the best nodes with their scores by part, or why there is none.

        Raises
        ------
        InvalidDataError
            If the answer does not belong to the question, or has no such task.
        """
        question = self.question(data, constraints)
        return explain_task(question.state, question.strategy, result, task_id, question.left_out)

    def explain_node(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any], node_id: str
    ) -> Explanation:
        """Explain a node: what is on it by owner, what is free, what it lacks for tasks without a node.

        Raises
        ------
        InvalidDataError
            If the answer does not belong to the question, or there is no such node.
        """
        question = self.question(data, constraints)
        held = self._held(question.found, node_id)
        return explain_node(question.state, result, node_id, held, question.left_out)

    def question(self, data: Mapping[str, Any], constraints: Mapping[str, Any]) -> PlacementQuestion:
        """Return what is to be placed where. See `solve`.

        Raises
        ------
        InvalidDataError
            If the data or a constraint is wrong.
        """
        with collection_paused():
            return self._ask(data, constraints)

    def _ask(self, data: Mapping[str, Any], constraints: Mapping[str, Any]) -> PlacementQuestion:
        tasks, chosen = load_given(data, constraints)
        workload = self._selection.workload
        if workload is not None and tasks:
            message = "not with dataFrom.cluster.workload: the workload says what is placed"
            raise InvalidDataError([Fault("data", message)])
        if workload is not None:
            given, unmodelled = workload_tasks(workload)
            found = placement_problem(self.snapshot, self._selection, given)
            found = dataclasses.replace(found, unmodelled=unmodelled)
            what = f"new pods of {workload.name}"
        elif tasks:
            written = [data["task"]] if data.get("task") is not None else data["tasks"]
            found = placement_problem(
                self.snapshot, self._selection, given_tasks(tasks, written, self._selection.namespace)
            )
            what = "tasks"
        else:
            found = placement_problem(self.snapshot, self._selection)
            what = "pending pods"
        found = dataclasses.replace(found, problem=with_devices(found.problem, chosen.shared_devices))
        state = State(found.problem, Rulebook(found.problem))
        single = workload is None and len(tasks) == 1 and data.get("task") is not None
        return PlacementQuestion(found, state, chosen.strategy, single, what)

    def _held(self, found: ClusterProblem, node_id: str) -> list[Held]:
        """Group the pods on a node by their owner."""
        problem, snapshot = found.problem, self.snapshot
        rows: dict[str, tuple[int, Sequence[int]]] = {}
        for row, (number, node) in zip(found.fixed_rows, problem.fixed, strict=True):
            if problem.nodes[node].id != node_id:
                continue
            pod = snapshot.pods[row]
            kind = snapshot.kinds[pod.kind]
            name = f"{kind.owner_kind} {kind.namespace}/{kind.owner_name}" if kind.owner_kind else snapshot.pod_id(pod)
            count, units = rows.get(name, (0, (0,) * len(problem.resources)))
            requests = problem.classes[number].requests
            rows[name] = (count + 1, [a + b for a, b in zip(units, requests, strict=True)])
        return [Held(name, count, units) for name, (count, units) in sorted(rows.items())]

    def answer(self, question: PlacementQuestion, placement: Placement) -> Answer:
        """Return the answer that a placement of the question's tasks is; for one given task too it is as for many."""
        found = question.found
        problem = found.problem
        left_out = question.left_out
        placements = placements_of(problem, placement)
        placements += [{"taskId": name, "reason": reason} for name, reason in left_out.items()]
        total = len(problem.tasks) + len(left_out)
        placed = placement.placed_count
        counts = {
            "placedCount": placed,
            "unplacedCount": total - placed,
            "algorithm": ALGORITHM,
            "notModelled": found.not_modelled,
            "cluster": found.cluster,
        }
        return Answer(
            result={"placements": placements, **counts},
            algorithm=ALGORITHM,
            message=_message(question, placement, placements, total),
            reason=Reason.SOLVED if placed == total else Reason.UNPLACEABLE,
            score=round(sum(placement.scores) / total, 9) if total else None,
            summary=counts,
        )


def _nowhere(state: State) -> Placement:
    """Return the placement of no tasks, or on no nodes."""
    count = len(state.problem.tasks)
    order = sorted(range(count), key=lambda task: -state.problem.tasks[task].priority)
    return Placement(order, [-1] * count, [0.0] * count, dict.fromkeys(range(count), _NO_NODES))


def _single_nowhere(state: State, placement: Placement) -> Answer:
    result = {"nodeId": None, "reason": placement.reasons[0]}
    message = f"task {state.problem.tasks[0].id}: {placement.reasons[0]}"
    return Answer(result, ALGORITHM, message, reason=Reason.UNPLACEABLE, score=0.0, summary=result)


def _message(
    question: PlacementQuestion, placement: Placement, placements: Sequence[Mapping[str, Any]], total: int
) -> str:
    found = question.found
    there = found.cluster["nodes"]
    if not total:
        if question.what == "pending pods":
            pending = found.cluster["pending"]
            why = f"none of the {pending:,} pending pods is selected" if pending else "no pod is pending"
            return f"nothing to place: {why}"
        return f"nothing to place: no {question.what} are asked for that are not on nodes already"
    used = len({node for node in placement.nodes if node >= 0})
    text = f"placed {placement.placed_count:,} of {total:,} {question.what} on {used:,} of {there:,} nodes"
    if there and not found.usable_nodes:
        text += f"; spec.dataFrom.cluster.nodes selects none of the {there:,} nodes"
    unplaced = [(item["taskId"], item["reason"]) for item in placements if "reason" in item]
    return f"{text}; not placed: {name_unplaced(unplaced)}" if unplaced else text
