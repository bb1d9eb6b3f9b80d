"""The solver of type ``scheduling``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine_ops.api.reasons import Reason
from engine_ops.engine.collecting import collection_paused
from engine_ops.engine.contract import Answer, Budget, Explanation, Report
from engine_ops.engine.scheduling.checks import load
from engine_ops.engine.scheduling.devices import with_devices
from engine_ops.engine.scheduling.explain import explain_many, explain_one
from engine_ops.engine.scheduling.explain_detail import explain_node, explain_task
from engine_ops.engine.scheduling.model import SchedulingData, Strategy
from engine_ops.engine.scheduling.placer import Placement, place_all
from engine_ops.engine.scheduling.problem import Problem, build
from engine_ops.engine.scheduling.rulebook import Rulebook
from engine_ops.engine.scheduling.search import given_order, improve
from engine_ops.engine.scheduling.state import State
from engine_ops.engine.scheduling.wording import reasons_by_node

ALGORITHM = "filter-and-score"
"""The name in ``solvedBy.algorithm``."""

_MAX_NODES_NAMED = 10
_MAX_TASKS_NAMED = 3


class SchedulingSolver:
    """Places tasks on given nodes as kube-scheduler would: one at a time, filters first, then scores.

    A node that cannot hold a task is never chosen. The filters, their order and the words for what they removed are
    those of kube-scheduler 1.36, for cordons, taints, node affinity, resources, topology spread and affinity among the
    request's own tasks. Of equally good nodes the one with the smallest id is taken (kube-scheduler draws lots).
    """

    def solve(self, data: Mapping[str, Any], constraints: Mapping[str, Any], budget: Budget, report: Report) -> Answer:
        """Answer. See `engine_ops.engine.contract.Solver.solve`.

        ``result`` is ``{nodeId, estimatedLoadAfter: {cpu, memory}}`` or ``{nodeId: null, reason}`` for ``data.task``,
        and ``{placements, placedCount, unplacedCount, algorithm}`` for ``data.tasks``, where ``placements`` are in the
        order in which the tasks were placed. ``devices`` beside a ``nodeId`` are the numbers of the shared devices
        taken. Amounts are cores and bytes, or percent where nodes have no capacity.
        ``score`` is the share of tasks placed times the mean score that the strategy gave each placement.
        """
        state, strategy, single = _prepare(data, constraints)
        first = first_placement(state, strategy)
        if single:
            answer = single_answer(state, first)
            report(lambda: answer)
            return answer
        report(lambda: _many(state.problem, first))
        best = improve(
            state, first, strategy, budget, lambda placement: report(lambda: _many(state.problem, placement))
        )
        return _many(state.problem, best)

    def explain(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any]
    ) -> Explanation:
        """Explain an answer by placing its tasks again, in its order and on its nodes."""
        state, strategy, single = _prepare(data, constraints)
        return explain_one(state, strategy, result) if single else explain_many(state, strategy, result)

    def explain_task(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any], task_id: str
    ) -> Explanation:
        """Explain what became of one task: the best nodes with their scores by part, or why there is none."""
        state, strategy, _ = _prepare(data, constraints)
        return explain_task(state, strategy, result, task_id)

    def explain_node(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any], node_id: str
    ) -> Explanation:
        """Explain a node: what the answer leaves on it, what is free, what it lacks for tasks without a node."""
        state, _, _ = _prepare(data, constraints)
        return explain_node(state, result, node_id)


def first_placement(state: State, strategy: Strategy) -> Placement:
    """Return the first answer: by priority, then in the given order, as kube-scheduler would."""
    placement = place_all(state, given_order(state.problem), strategy=strategy)
    if placement is None:  # pragma: no cover - without a deadline there is an answer
        raise AssertionError("a pass without a deadline ended early")
    return placement


def _prepare(data: Mapping[str, Any], constraints: Mapping[str, Any]) -> tuple[State, Strategy, bool]:
    model: SchedulingData
    with collection_paused():
        model, chosen = load(data, constraints)
        problem = with_devices(build(model, data), chosen.shared_devices, model.nodes)
        return State(problem, Rulebook(problem)), chosen.strategy, model.task is not None


def single_answer(state: State, placement: Placement) -> Answer:
    """Return the answer for the only task of a problem, which the state has as placed."""
    problem = state.problem
    task, node = problem.tasks[0], placement.nodes[0]
    if node < 0:
        reason = placement.reasons[0]
        result: dict[str, Any] = {"nodeId": None, "reason": reason}
        return Answer(
            result=result,
            algorithm=ALGORITHM,
            message=f"task {task.id}: {reason} {_each_node(state)}",
            reason=Reason.UNPLACEABLE,
            score=0.0,
            summary=result,
        )
    after = {
        name: problem.amount(i, int(problem.capacity[i, node] - state.free[i][node]))
        for i, name in enumerate(("cpu", "memory"))
    }
    result = {"nodeId": problem.nodes[node].id, "estimatedLoadAfter": after, **_devices(placement, 0)}
    return Answer(
        result=result,
        algorithm=ALGORITHM,
        message=f"task {task.id} goes to node {problem.nodes[node].id}",
        score=placement.score(),
        summary=result,
    )


def _each_node(state: State) -> str:
    reasons = reasons_by_node(state, state.problem.classes[0])
    named = [
        f"{node.id}: {', '.join(why)}"
        for node, why in zip(state.problem.nodes[:_MAX_NODES_NAMED], reasons, strict=False)
    ]
    more = len(reasons) - len(named)
    return "; ".join(named) + (f"; and {more} more nodes" if more else "")


def placements_of(problem: Problem, placement: Placement) -> list[dict[str, Any]]:
    """Return ``{taskId, nodeId | reason, devices?}`` of each task, in the order in which they were placed."""
    names = [node.id for node in problem.nodes]
    return [
        {"taskId": problem.tasks[task].id, "nodeId": names[placement.nodes[task]], **_devices(placement, task)}
        if placement.nodes[task] >= 0
        else {"taskId": problem.tasks[task].id, "reason": placement.reasons[task]}
        for task in placement.order
    ]


def _devices(placement: Placement, task: int) -> dict[str, list[int]]:
    """Return which devices of its node a task takes, by their numbers; nothing for a task that takes none."""
    taken = placement.devices.get(task)
    return {"devices": list(taken)} if taken else {}


def name_unplaced(unplaced: Sequence[tuple[str, str]]) -> str:
    """Write why tasks have no node, for the first few: names and reasons."""
    named = "; ".join(f"{name}: {reason}" for name, reason in unplaced[:_MAX_TASKS_NAMED])
    more = len(unplaced) - _MAX_TASKS_NAMED
    return named + (f"; and {more} more" if more > 0 else "")


def _many(problem: Problem, placement: Placement) -> Answer:
    counts = {
        "placedCount": placement.placed_count,
        "unplacedCount": len(placement.reasons),
        "algorithm": ALGORITHM,
    }
    return Answer(
        result={"placements": placements_of(problem, placement), **counts},
        algorithm=ALGORITHM,
        message=_message(problem, placement),
        reason=Reason.UNPLACEABLE if placement.reasons else Reason.SOLVED,
        score=placement.score(),
        summary=counts,
    )


def _message(problem: Problem, placement: Placement) -> str:
    total, left = len(problem.tasks), len(placement.reasons)
    if not left:
        return f"all {total} tasks are placed" if total > 1 else "the task is placed"
    unplaced = [
        (problem.tasks[task].id, placement.reasons[task]) for task in placement.order if task in placement.reasons
    ]
    return f"{left} of {total} tasks fit no node: {name_unplaced(unplaced)}"
