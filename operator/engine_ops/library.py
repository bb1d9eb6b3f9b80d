"""The engine as a library: synchronous and asynchronous, in a script or in a notebook."""

from __future__ import annotations

import asyncio
import time
from typing import Self

from engine_ops import __version__
from engine_ops.api.faults import InvalidDataError, WaitingError
from engine_ops.api.reasons import Reason
from engine_ops.engine.config import EngineConfig
from engine_ops.engine.contract import Answer, Budget, Report, ignore_report
from engine_ops.engine.request import OptimizationMetrics, OptimizationRequest, OptimizationResult, SolvedBy
from engine_ops.engine.solvers import TYPES, solver_for


class OptimizationEngine:
    """Answers optimisation requests in this process.

    Parameters
    ----------
    config
        How it works; the defaults are right for most uses.

    Examples
    --------
    >>> from engine_ops import EngineConfig, OptimizationEngine, OptimizationRequest
    >>> engine = OptimizationEngine(EngineConfig(search_seconds=0)).init()
    >>> items = [{"id": "web", "cpu": "500m", "memory": "1Gi", "count": 6}]
    >>> data = {"items": items, "nodeCapacity": {"cpu": 2, "memory": "8Gi"}}
    >>> result = engine.optimize(OptimizationRequest(id="a", type="resource", data=data))
    >>> result.success, result.result["nodeCount"], result.result["lowerBound"]
    (True, 2, 2)
    """

    def __init__(self, config: EngineConfig | None = None) -> None:
        self.config = config if config is not None else EngineConfig()

    def init(self) -> Self:
        """Load every solver now, so that the first request is as quick as the others.

        Returns
        -------
        OptimizationEngine
            Itself.
        """
        for request_type in TYPES:
            solver_for(request_type)
        return self

    def optimize(self, request: OptimizationRequest, report: Report = ignore_report) -> OptimizationResult:
        """Answer a request. Works in a notebook too: no event loop is needed, nor is a running one in the way.

        Parameters
        ----------
        request
            The question.
        report
            Called with the first answer and each better one while the search goes on.

        Returns
        -------
        OptimizationResult
            Bad data and unanswerable questions come back as ``success=False`` with a reason, never as an exception.
        """
        started = time.monotonic()
        search_seconds = self.config.search_seconds if request.search_seconds is None else request.search_seconds
        budget = Budget.of(search_seconds, max_steps=self.config.max_steps, seed=self.config.seed)
        try:
            answer = solver_for(request.type).solve(request.data, request.constraints or {}, budget, report)
        except InvalidDataError as error:
            return _failure(request, started, Reason.INVALID_DATA, str(error))
        except WaitingError as error:
            return _failure(request, started, error.reason, error.message)
        return _result(request, started, answer)

    async def optimize_async(self, request: OptimizationRequest, report: Report = ignore_report) -> OptimizationResult:
        """Answer a request in a thread, so that the event loop stays free. See `optimize`."""
        return await asyncio.to_thread(self.optimize, request, report)


def _duration_ms(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def _result(request: OptimizationRequest, started: float, answer: Answer) -> OptimizationResult:
    return OptimizationResult(
        request_id=request.id,
        success=answer.complete,
        result=dict(answer.result),
        error=None if answer.complete else answer.message,
        reason=answer.reason,
        metrics=OptimizationMetrics(duration_ms=_duration_ms(started), score=answer.score),
        solved_by=SolvedBy(algorithm=answer.algorithm, version=__version__),
    )


def _failure(request: OptimizationRequest, started: float, reason: str, message: str) -> OptimizationResult:
    return OptimizationResult(
        request_id=request.id,
        success=False,
        error=message,
        reason=reason,
        metrics=OptimizationMetrics(duration_ms=_duration_ms(started)),
    )
