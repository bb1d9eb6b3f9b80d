"""A plugin's answer to a ``scheduling`` request about a live cluster, held against the cluster itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from engine_ops.engine.cluster.placement import ClusterPlacementSolver, PlacementQuestion
from engine_ops.engine.scheduling.placer import Placement
from engine_ops.plugins.checked import Checked
from engine_ops.plugins.json_values import RefusedError
from engine_ops.plugins.placement_answers import PlacementChecker


class ClusterPlacementChecker(PlacementChecker):
    """Holds placements against the filters that pods must pass, with all pods that are there.

    Parameters
    ----------
    solver, question
        The built-in, and what it was asked.
    """

    def __init__(self, solver: ClusterPlacementSolver, question: PlacementQuestion) -> None:
        super().__init__(question.state, question.strategy, single=question.single)
        self._solver = solver
        self._question = question

    def check(self, result: Mapping[str, Any], algorithm: str) -> Checked:
        """Check a placement. See `engine_ops.plugins.placement_answers.PlacementChecker.check`.

        Pods of which the engine does not model everything are placed nowhere, and need not be named.

        Raises
        ------
        RefusedError
            If it is infeasible, or not in the type's shape.
        """
        left_out, entries = self._question.left_out, result.get("placements")
        if left_out and not self.single and isinstance(entries, list):
            kept = []
            for number, entry in enumerate(entries):
                task = entry.get("taskId") if isinstance(entry, dict) else None
                if not isinstance(task, str) or task not in left_out:
                    kept.append(entry)
                elif entry.get("nodeId") is not None:
                    raise RefusedError(f"result.placements[{number}].nodeId", f"task {task!r} is {left_out[task]}")
            result = {**result, "placements": kept}
        return super().check(result, algorithm)

    def answer(self, placement: Placement, algorithm: str) -> Checked:
        """Return a placement that is feasible, and that the state has in it, as a checked answer."""
        checked = super().answer(placement, algorithm)
        if self.single:
            return checked
        answer = self._solver.answer(self._question, placement)
        named = {"algorithm": algorithm}
        answer = dataclasses.replace(
            answer,
            algorithm=algorithm,
            result={**answer.result, **named},
            summary={**answer.summary, **named},
        )
        return Checked(answer, checked.value)
