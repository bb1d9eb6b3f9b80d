"""The built-in solver of type ``resource``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from engine_ops.engine.contract import Answer, Budget, Explanation, Report
from engine_ops.engine.resource.answer import build_answer
from engine_ops.engine.resource.data import parse
from engine_ops.engine.resource.explain import explain
from engine_ops.engine.resource.first_answer import first_answers
from engine_ops.engine.resource.packing import Packing
from engine_ops.engine.resource.problem import build_problem
from engine_ops.engine.resource.proof import Proof
from engine_ops.engine.resource.search import improve


class ResourceSolver:
    """Packs items onto nodes: first answers from greedy algorithms, then a tabu search, and always a lower bound."""

    def solve(self, data: Mapping[str, Any], constraints: Mapping[str, Any], budget: Budget, report: Report) -> Answer:
        """Pack. See `engine_ops.engine.contract.Solver.solve`.

        The objective is lexicographic: items placed, by priority; then the nodes' cost where types have one, else the
        number of nodes. The search ends early where the lower bound is reached.

        Raises
        ------
        InvalidDataError
            If the data or a constraint is wrong. Every fault is named with its path.
        """
        problem = build_problem(*parse(data, constraints))
        proof = Proof(problem)
        best, name = Packing((), problem.count), "first-fit-decreasing"
        settled = False
        for name, best in first_answers(problem):
            settled = proof.settles(best)
            report(partial(build_answer, problem, best, name, proof.cost))
            if settled:
                break
        if settled or not budget.allows(0):
            return build_answer(problem, best, name, proof.cost)

        searched = f"{name}+exchange"

        def found(packing: Packing) -> None:
            report(partial(build_answer, problem, packing, searched, proof.cost))

        improved = improve(problem, best, proof, budget, found)
        return build_answer(problem, improved, name if improved is best else searched, proof.cost)

    def explain(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any]
    ) -> Explanation:
        """Explain where each item went, and which bound holds. See `engine_ops.engine.contract.Solver.explain`.

        Raises
        ------
        InvalidDataError
            If the data or a constraint is wrong, or the result does not belong to them.
        """
        return explain(build_problem(*parse(data, constraints)), result)
