"""Requests that only a plugin can answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine_ops.api.faults import WaitingError
from engine_ops.api.reasons import Reason
from engine_ops.engine.contract import Answer, Budget, Explanation, Report


class MLDrivenSolver:
    """Answers nothing by itself: ``data`` is free-form and made for plugins."""

    def solve(self, data: Mapping[str, Any], constraints: Mapping[str, Any], budget: Budget, report: Report) -> Answer:
        """Wait for a plugin.

        Raises
        ------
        WaitingError
            Always, with reason NoPlugin.
        """
        del data, constraints, budget, report
        raise WaitingError(Reason.NO_PLUGIN, "no enabled plugin can handle type ml-driven")

    def explain(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any]
    ) -> Explanation:
        """Say what is awaited."""
        del data, constraints, result
        return Explanation(
            title="ml-driven: waiting for a plugin",
            headers=("PLUGIN", "WHY NOT"),
            rows=(),
            notes=("No enabled plugin can handle type ml-driven.",),
        )
