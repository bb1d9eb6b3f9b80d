"""How the library answers a request where there are plugins: the first that can, held against the built-in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine_ops import __version__
from engine_ops.api.faults import WaitingError
from engine_ops.api.reasons import Reason
from engine_ops.engine.contract import Answer
from engine_ops.engine.performance.hold_out import older_data
from engine_ops.engine.request import OptimizationRequest, SolvedBy
from engine_ops.history.feed import HistoryFeed
from engine_ops.history.view import HistoryView
from engine_ops.ml.examples.simple_predictor import SimplePredictorPlugin
from engine_ops.plugins.in_process import MIN_SAMPLES, InProcessPlugins
from engine_ops.plugins.judging import Judged, judge
from engine_ops.plugins.registered import RegisteredPlugin
from engine_ops.plugins.registry import PluginRegistry

if TYPE_CHECKING:
    from engine_ops.history.local import LocalHistory

SIMPLE_PREDICTOR: Final = "simple-predictor"
"""The algorithm in ``solved_by`` where the history alone answered a request of type ml-driven."""

_TRAIN_AGAIN_AFTER: Final = 25


class LocalPlugins:
    """Answers requests with the plugins of a registry, in this process.

    Parameters
    ----------
    registry
        The plugins.
    timeout_seconds
        For one answer of a plugin.
    """

    def __init__(self, registry: PluginRegistry, *, timeout_seconds: float) -> None:
        self._plugins = InProcessPlugins(registry, timeout_seconds=timeout_seconds)
        self._history: LocalHistory | None = None
        self._lock = threading.Lock()
        self._predictor = SimplePredictorPlugin()
        self._predictor_learned = 0

    def learn_from(self, history: LocalHistory) -> None:
        """Show plugins a history from now on."""
        self._history = history
        self._feed = HistoryFeed(history.collector)
        self._cursor = self._feed.cursor()
        self._view = HistoryView()

    def train(self, name: str | None) -> list[str]:
        """See `engine_ops.OptimizationEngine.train_plugins`."""
        return self._plugins.train(self._seen() or (), name)

    def answer(self, request: OptimizationRequest, solve: Callable[[], Answer]) -> tuple[Answer, SolvedBy | None]:
        """Answer a request.

        Parameters
        ----------
        request
            The question.
        solve
            Answers it with the built-in algorithm; called once at most.

        Returns
        -------
        tuple
            The answer, and what made it; None where no plugin was asked.

        Raises
        ------
        InvalidDataError, WaitingError
            As the built-in algorithm raises them.
        """
        once = _Once(solve)
        entries = self._plugins.select(request, request.plugin)
        if request.plugin is not None and not entries:
            message = f"plugin: no enabled plugin that can handle type {request.type} has the name {request.plugin!r}"
            raise WaitingError(Reason.NO_PLUGIN, message)
        history = self._seen()
        noes: list[str] = []
        for entry in entries:
            reply = self._plugins.ask(entry, request, history)
            if reply.no is not None:
                noes.append(f"{entry.name}: {reply.no}")
                continue
            judged = self._judged(entry, request, msgspec.json.decode(reply.envelope), once, history)
            if judged.no:
                noes.append(f"{entry.name}: {judged.no}")
            if judged.unusable:
                self._plugins.registry.report_error(entry.name, judged.no)
                continue
            return judged.answer, _solved_by(judged, entry, noes)
        if request.type == "ml-driven" and request.plugin is None and history is not None:
            return self._predicted(request, history, noes), SolvedBy(
                algorithm=SIMPLE_PREDICTOR, version=__version__, fallback_reason="; ".join(noes) or None
            )
        try:
            answer = once()
        except WaitingError as error:
            raise WaitingError(error.reason, "; ".join(noes) or error.message) from error
        if not noes:
            return answer, None
        return answer, SolvedBy(algorithm=answer.algorithm, version=__version__, fallback_reason="; ".join(noes))

    def _judged(
        self,
        entry: RegisteredPlugin,
        request: OptimizationRequest,
        returned: Any,
        solve: _Once,
        history: HistoryView | None,
    ) -> Judged:
        older = older_data(request.data) if request.type == "performance" else None
        backtest = None
        if older is not None:
            tried = self._plugins.ask(entry, request.model_copy(update={"data": older}), history)
            backtest = {"success": False, "error": tried.no} if tried.no else msgspec.json.decode(tried.envelope)
        return judge(
            request.type,
            request.data,
            request.constraints or {},
            returned,
            solve,
            plugin=entry.name,
            backtest=backtest,
        )

    def _predicted(self, request: OptimizationRequest, history: HistoryView, noes: list[str]) -> Answer:
        """Predict from averages of the history."""
        with self._lock:
            if len(history) < MIN_SAMPLES:
                few = f"{SIMPLE_PREDICTOR}: {len(history)} of {MIN_SAMPLES} points of history"
                raise WaitingError(Reason.NOT_ENOUGH_DATA, "; ".join([*noes, few]))
            if not self._predictor_learned or history.added >= self._predictor_learned + _TRAIN_AGAIN_AFTER:
                self._predictor.init()
                self._predictor.train_model(list(history))
                self._predictor_learned = history.added
            returned = self._predictor.optimize({**request.data, "type": request.type}, list(history))

        def nothing() -> Answer:
            raise AssertionError("there is no built-in for it")

        return judge(request.type, request.data, {}, returned, nothing, plugin=SIMPLE_PREDICTOR).answer

    def _seen(self) -> HistoryView | None:
        """Return the history as it is now."""
        if self._history is None:
            return None
        with self._lock:
            for update in self._feed.updates_for(self._cursor):
                self._view.apply(update)
        return self._view


class _Once:
    """The built-in's answer, solved when it is first wanted."""

    def __init__(self, solve: Callable[[], Answer]) -> None:
        self._solve = solve
        self._answer: Answer | None = None

    def __call__(self) -> Answer:
        if self._answer is None:
            self._answer = self._solve()
        return self._answer


def _solved_by(judged: Judged, entry: RegisteredPlugin, noes: list[str]) -> SolvedBy:
    reason = "; ".join(noes) or None
    if not judged.role:
        return SolvedBy(algorithm=judged.answer.algorithm, version=__version__, fallback_reason=reason)
    reply = judged.reply
    return SolvedBy(
        plugin=entry.name,
        role=judged.role,
        version=entry.metadata.version,
        algorithm=judged.answer.algorithm if judged.role == "advice" else None,
        model_id=reply.model_id if reply is not None else None,
        claimed_confidence=reply.claimed_confidence if reply is not None else None,
        fallback_reason=reason,
    )
