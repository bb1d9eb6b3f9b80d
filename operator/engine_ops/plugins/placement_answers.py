"""A plugin's answer to a ``scheduling`` request, held against the filters that the built-in keeps to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from engine_ops.api.reasons import Reason
from engine_ops.engine.collecting import collection_paused
from engine_ops.engine.contract import Answer
from engine_ops.engine.scheduling.checks import load
from engine_ops.engine.scheduling.devices import Devices, with_devices
from engine_ops.engine.scheduling.model import Strategy
from engine_ops.engine.scheduling.placer import Placement
from engine_ops.engine.scheduling.problem import Problem, TaskClass, build
from engine_ops.engine.scheduling.rulebook import Rulebook
from engine_ops.engine.scheduling.solver import name_unplaced, placements_of, single_answer
from engine_ops.engine.scheduling.state import State
from engine_ops.engine.scheduling.wording import reasons_by_node, unavailable
from engine_ops.plugins.checked import Checked
from engine_ops.plugins.fields import entries, is_whole, text
from engine_ops.plugins.json_values import RefusedError, quoted

_LEFT_OUT = "the plugin chose no node"


class PlacementChecker:
    """Holds placements against the filters that the built-in places by.

    Parameters
    ----------
    state
        The problem's state; changed by every check.
    strategy
        What scores are of.
    single
        Whether the request has one task, so that the answer is ``{nodeId, ...}``.
    """

    def __init__(self, state: State, strategy: Strategy, *, single: bool) -> None:
        self.state = state
        self.strategy: Strategy = strategy
        self.single = single
        self._task = {task.id: number for number, task in enumerate(state.problem.tasks)}
        self._node = {node.id: number for number, node in enumerate(state.problem.nodes)}

    @classmethod
    def of(cls, data: Mapping[str, Any], constraints: Mapping[str, Any]) -> PlacementChecker:
        """Return the checker of a request.

        Raises
        ------
        InvalidDataError
            If the data or a constraint is wrong.
        """
        with collection_paused():
            model, chosen = load(data, constraints)
            problem = with_devices(build(model, data), chosen.shared_devices, model.nodes)
            state = State(problem, Rulebook(problem))
        return cls(state, chosen.strategy, single=model.task is not None)

    def check(self, result: Mapping[str, Any], algorithm: str) -> Checked:
        """Check ``{nodeId, devices?}`` for one task, or ``{placements: [{taskId, nodeId?, devices?}]}`` for many.

        Every task must be named once. Tasks are placed in the order given and each must pass the filters at its turn,
        as with kube-scheduler: what needs the company of another task comes after it. A task without ``nodeId`` is
        unplaced. Loads after placement are derived anew, and so not read; without ``devices`` the engine chooses them.

        Parameters
        ----------
        result
            JSON values.
        algorithm
            The name of what made it, for the answer.

        Raises
        ------
        RefusedError
            If it is infeasible, or not in this shape.
        """
        return self.answer(self._place_all(result), algorithm)

    def answer(self, placement: Placement, algorithm: str) -> Checked:
        """Return a placement that is feasible, and that the state has in it, as a checked answer."""
        return placement_answer(self.state, placement, algorithm, single=self.single)

    def _place_all(self, result: Mapping[str, Any]) -> Placement:
        state, problem = self.state, self.state.problem
        state.reset()
        nodes = [-1] * len(problem.tasks)
        scores = [0.0] * len(problem.tasks)
        reasons: dict[int, str] = {}
        devices: dict[int, Devices] = {}
        order: dict[int, str] = {}
        for path, entry in self._entries(result):
            task = self._task_of(entry, path, order)
            order[task] = path
            task_class = problem.classes[problem.class_of[task]]
            node = self._node_of(entry, path)
            if node is None:
                reasons[task] = _LEFT_OUT if state.feasible(task_class).any() else unavailable(state, task_class)
                continue
            if not state.feasible(task_class)[node]:
                why = ", ".join(reasons_by_node(state, task_class)[node])
                raise RefusedError(
                    f"{path}.nodeId",
                    f"node {quoted(problem.nodes[node].id)} cannot hold task {quoted(problem.tasks[task].id)}: {why}",
                )
            chosen = self._devices(entry, path, task_class, node)
            nodes[task] = node
            scores[task] = state.score(task_class, node, self.strategy)
            taken = state.place(task_class, node, chosen)
            if taken:
                devices[task] = taken
        if len(order) < len(problem.tasks):
            missing = next(task.id for number, task in enumerate(problem.tasks) if number not in order)
            count = len(problem.tasks) - len(order)
            raise RefusedError(
                "result.placements", f"{count} of {len(problem.tasks)} tasks are not in it, such as {quoted(missing)}"
            )
        return Placement(list(order), nodes, scores, reasons, devices)

    def _entries(self, result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        if not self.single:
            return entries(result, "placements", "result")
        if "nodeId" not in result:
            raise RefusedError("result.nodeId", "required for data.task, but absent; null where no node can hold it")
        return [("result", {**result, "taskId": self.state.problem.tasks[0].id})]

    def _task_of(self, entry: Mapping[str, Any], path: str, order: Mapping[int, str]) -> int:
        name = text(entry, "taskId", path)
        task = self._task.get(name)
        if task is None:
            raise RefusedError(f"{path}.taskId", f"{quoted(name)} is no id of data.tasks")
        if task in order:
            raise RefusedError(f"{path}.taskId", f"{quoted(name)} is placed by {order[task]} already")
        return task

    def _node_of(self, entry: Mapping[str, Any], path: str) -> int | None:
        if entry.get("nodeId") is None:
            return None
        name = text(entry, "nodeId", path)
        if name not in self._node:
            raise RefusedError(f"{path}.nodeId", f"{quoted(name)} is no id of data.nodes")
        return self._node[name]

    def _devices(self, entry: Mapping[str, Any], path: str, task_class: TaskClass, node: int) -> Devices | None:
        """Return the devices that the answer names, those of each shared resource ascending; None for none named."""
        named = entry.get("devices")
        path = f"{path}.devices"
        if named is None:
            return self.state.devices_for(task_class, node, self.strategy)
        if not isinstance(named, list) or not all(is_whole(device) for device in named):
            raise RefusedError(path, f"must be a list of the devices' numbers, not {quoted(named)}")
        taken: Devices = ()
        for ledger in self.state.ledgers:
            pool, units = ledger.pool, task_class.requests[ledger.pool.resource]
            own = sorted(named[len(taken) : len(taken) + pool.needed(units)])
            name = self.state.problem.resources[pool.resource]
            if len(own) < pool.needed(units) or len(set(own)) < len(own):
                raise RefusedError(path, f"must name {pool.needed(units)} different devices of {name}")
            for device in own:
                if not 0 <= device < pool.counts[node]:
                    raise RefusedError(path, f"the node has no device {device} of {name}")
                if ledger.free[node, device] < min(units, pool.size):
                    raise RefusedError(path, f"device {device} has too little free {name}")
            taken = (*taken, *own)
        if len(taken) < len(named):
            raise RefusedError(path, f"must name {len(taken)} devices, not {len(named)}")
        return taken


def placement_answer(state: State, placement: Placement, algorithm: str, *, single: bool) -> Checked:
    """Return a feasible placement as a checked answer.

    Parameters
    ----------
    state
        With the placement in it.
    placement
        Of the state's problem.
    algorithm
        The name of what made it.
    single
        Whether the request has one task.
    """
    problem = state.problem
    placed = placement.placed_by_priority(problem)
    # Tasks first, those of the highest priority before all; then how well they lie.
    value = (tuple(-count for count in placed), -placement.score())
    if single:
        return Checked(dataclasses.replace(single_answer(state, placement), algorithm=algorithm), value)
    counts = {
        "placedCount": placement.placed_count,
        "unplacedCount": len(placement.reasons),
        "algorithm": algorithm,
    }
    return Checked(
        Answer(
            result={"placements": placements_of(problem, placement), **counts},
            algorithm=algorithm,
            message=_message(problem, placement),
            reason=Reason.UNPLACEABLE if placement.reasons else Reason.SOLVED,
            score=placement.score(),
            summary=counts,
        ),
        value,
    )


def _message(problem: Problem, placement: Placement) -> str:
    total, left = len(problem.tasks), len(placement.reasons)
    if not left:
        return f"all {total} tasks are placed" if total > 1 else "the task is placed"
    unplaced = [(problem.tasks[task].id, placement.reasons[task]) for task in placement.reasons]
    return f"{left} of {total} tasks have no node: {name_unplaced(unplaced)}"
