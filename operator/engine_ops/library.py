"""The engine as a library: synchronous and asynchronous, in a script or in a notebook, with a history of its own."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self

from engine_ops import __version__
from engine_ops.api.faults import InvalidDataError, WaitingError
from engine_ops.api.optimizationrequest import NO_PLUGIN
from engine_ops.api.reasons import Reason
from engine_ops.engine.config import EngineConfig
from engine_ops.engine.contract import Answer, Budget, Report, ignore_report
from engine_ops.engine.request import OptimizationMetrics, OptimizationRequest, OptimizationResult, SolvedBy
from engine_ops.engine.solvers import TYPES, solver_for
from engine_ops.history.answer_point import answer_point
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.request_fields import request_fields

if TYPE_CHECKING:
    from engine_ops.history.collector import WorkloadCollector
    from engine_ops.history.local import LocalHistory
    from engine_ops.plugins.local import LocalPlugins
    from engine_ops.plugins.registry import PluginRegistry


class OptimizationEngine:
    """Answers optimisation requests in this process.

    Parameters
    ----------
    config
        How it works; the defaults are right for most uses.
    registry
        Of the plugins, where they are enabled; None for the shared `engine_ops.plugin_registry`.

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

    def __init__(self, config: EngineConfig | None = None, *, registry: PluginRegistry | None = None) -> None:
        self.config = config if config is not None else EngineConfig()
        self._history: LocalHistory | None = None
        self._plugins: LocalPlugins | None = None
        if self.config.enable_plugins:
            from engine_ops.plugins.local import LocalPlugins
            from engine_ops.plugins.registry import plugin_registry

            self._plugins = LocalPlugins(
                registry if registry is not None else plugin_registry,
                timeout_seconds=self.config.plugin_timeout_seconds,
            )
        if self.config.enable_workload_collection:
            from engine_ops.history.local import LocalHistory

            self._history = LocalHistory(self.config.history_directory, capacity=self.config.history_points)
            if self._plugins is not None:
                self._plugins.learn_from(self._history)

    @property
    def collector(self) -> WorkloadCollector | None:
        """The data points so far; None unless ``enable_workload_collection`` is set.

        What really became of a workload is the caller's to say: record a `engine_ops.ml.WorkloadDataPoint` of your own
        with `record`.
        """
        return self._history.collector if self._history is not None else None

    def record(self, point: WorkloadDataPoint) -> None:
        """Add a data point to the history.

        Raises
        ------
        RuntimeError
            If ``enable_workload_collection`` is not set.
        ValueError
            If the point holds what is no JSON value.
        """
        if self._history is None:
            raise RuntimeError("no history is kept: set EngineConfig(enable_workload_collection=True)")
        self._history.record(point)

    def train_plugins(self, name: str | None = None) -> list[str]:
        """Train the plugins that can be trained on the history, in this thread and for as long as it takes.

        Parameters
        ----------
        name
            The only one; None for all of the registry.

        Returns
        -------
        list of str
            The names of those that were trained. One that could not be is told to the registry's listeners.

        Raises
        ------
        RuntimeError
            If plugins or the history are not enabled.
        ValueError
            If there are fewer than 10 points.
        """
        if self._plugins is None or self._history is None:
            needed = "EngineConfig(enable_plugins=True, enable_workload_collection=True)"
            raise RuntimeError(f"plugins learn from the history: set {needed}")
        return self._plugins.train(name)

    def close(self) -> None:
        """Write what the history directory lacks. The engine can be used on, and closed again."""
        if self._history is not None:
            self._history.flush()

    def __enter__(self) -> Self:
        return self.init()

    def __exit__(self, *error: object) -> None:
        self.close()

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
        asked_ms = time.time_ns() // 1_000_000
        result = self._answer(request, report)
        if self._history is not None:
            self._history.record(_point(request, result, asked_ms))
        return result

    def _answer(self, request: OptimizationRequest, report: Report) -> OptimizationResult:
        started = time.monotonic()
        search_seconds = self.config.search_seconds if request.search_seconds is None else request.search_seconds
        budget = Budget.of(search_seconds, max_steps=self.config.max_steps, seed=self.config.seed)

        def solve() -> Answer:
            return solver_for(request.type).solve(request.data, request.constraints or {}, budget, report)

        solved_by = None
        try:
            if self._plugins is None or request.plugin == NO_PLUGIN:
                answer = solve()
            else:
                answer, solved_by = self._plugins.answer(request, solve)
        except InvalidDataError as error:
            return _failure(request, started, Reason.INVALID_DATA, str(error))
        except WaitingError as error:
            return _failure(request, started, error.reason, error.message)
        return _result(request, started, answer, solved_by)

    async def optimize_async(self, request: OptimizationRequest, report: Report = ignore_report) -> OptimizationResult:
        """Answer a request in a thread, so that the event loop stays free. See `optimize`."""
        return await asyncio.to_thread(self.optimize, request, report)


def _point(request: OptimizationRequest, result: OptimizationResult, asked_ms: int) -> WorkloadDataPoint:
    """Return what is known of a request by itself: its own time and whether it was answered."""
    return answer_point(
        {"requestId": request.id},
        request_type=request.type,
        asked_ms=asked_ms,
        duration_ms=result.metrics.duration_ms,
        success=result.success,
        reason=result.reason,
        score=result.metrics.score,
        solved_by=result.solved_by,
        fields=request_fields(request.type, request.data),
    )


def _duration_ms(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def _result(
    request: OptimizationRequest, started: float, answer: Answer, solved_by: SolvedBy | None
) -> OptimizationResult:
    return OptimizationResult(
        request_id=request.id,
        success=answer.complete,
        result=dict(answer.result),
        error=None if answer.complete else answer.message,
        reason=answer.reason,
        metrics=OptimizationMetrics(duration_ms=_duration_ms(started), score=answer.score),
        solved_by=solved_by if solved_by is not None else SolvedBy(algorithm=answer.algorithm, version=__version__),
    )


def _failure(request: OptimizationRequest, started: float, reason: str, message: str) -> OptimizationResult:
    return OptimizationResult(
        request_id=request.id,
        success=False,
        error=message,
        reason=reason,
        metrics=OptimizationMetrics(duration_ms=_duration_ms(started)),
    )
