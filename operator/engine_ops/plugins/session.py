"""What a plugin's process does with each message: the manners; the process is the isolation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine_ops.api.faults import InvalidDataError
from engine_ops.history.feed import HistoryUpdate
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.plugin_interface import MLPluginInterface
from engine_ops.plugins.base import BaseOptimizationPlugin, Plugin, PluginError
from engine_ops.plugins.config import PluginConfig
from engine_ops.plugins.discovery import load_class, make_plugin
from engine_ops.plugins.messages import MAX_FAULTS, Answer, Ask, Broken, Close, Message, Open, Replied, Train
from engine_ops.plugins.ml_plugin import MLOptimizationPlugin
from engine_ops.plugins.model_state import decode_state
from engine_ops.plugins.registered import initialize
from engine_ops.plugins.session_guard import guarded, line, message_of
from engine_ops.plugins.session_opened import can_handle, has_model, is_trained, model_id_of, model_of, opened
from engine_ops.plugins.session_reply import replied
from engine_ops.plugins.session_request import request_data_of, request_of
from engine_ops.plugins.session_training import Circumstances, train, trained
from engine_ops.workers.documents import read_json

if TYPE_CHECKING:
    from engine_ops.history.view import HistoryView

logger = logging.getLogger(__name__)

_SHOW_IT_THEMSELVES: Final = (MLPluginInterface.optimize, MLOptimizationPlugin.optimize)
_NOT_OPEN: Final = "there is no plugin: it was not opened, or could not be"


class PluginSession:
    """One plugin, from `Open` to `Close`, one message at a time.

    Parameters
    ----------
    make
        Makes the plugin; None takes the class that `Open.entry_point` names.
    """

    def __init__(self, make: Callable[[], Plugin] | None = None) -> None:
        self._make = make
        self._opening: Open | None = None
        self._plugin: Plugin | None = None
        self._history: HistoryView | None = None

    @property
    def points(self) -> int:
        """Of the history that it was sent."""
        return len(self._history) if self._history is not None else 0

    def handle(self, message: Message) -> Answer | None:
        """Do what a message asks for.

        Parameters
        ----------
        message
            From the operator.

        Returns
        -------
        Opened, Broken, Replied or Trained
            The answer; None to a `HistoryUpdate` and to `Close`. Whatever the plugin's code raises is in it.

        Raises
        ------
        DamagedHistoryError
            If a `HistoryUpdate` cannot be read, or the history when it is to be trained on: what follows would rest on
            another history than the operator's.
        """
        match message:
            case Ask():
                return self._ask(message)
            case HistoryUpdate():
                self._update(message)
                return None
            case Open():
                return self._open(message)
            case Train():
                return self._train(message)
            case Close():
                self._close()
                return None

    def _open(self, message: Open) -> Answer:
        self._close()
        try:
            config = _settings(message.config)
        except InvalidDataError as error:
            return _rejected(error)
        try:
            make = self._make or _maker(message.entry_point)
        except PluginError as error:
            return Broken("import", message_of(error))
        try:
            plugin = guarded("making it", make, passing=(PluginError,))
            guarded("init", lambda: initialize(plugin, config), passing=(InvalidDataError, PluginError))
            answer = guarded("what it says of itself", lambda: opened(plugin), passing=(PluginError,))
        except InvalidDataError as error:
            return _rejected(error)
        except PluginError as error:
            return Broken("init", message_of(error))
        if message.state:
            try:
                guarded("load", lambda: model_of(plugin).load(decode_state(message.state)))
            except PluginError as error:
                return Broken("load", message_of(error))
            answer = msgspec.structs.replace(answer, is_trained=is_trained(plugin), model_id=model_id_of(plugin))
        self._plugin, self._opening = plugin, message
        return answer

    def _ask(self, message: Ask) -> Replied:
        plugin = self._plugin
        if plugin is None:
            return Replied(no=_NOT_OPEN, failed=True)
        try:
            # A plugin may lie about its class, or raise where it is asked for it.
            call = guarded("its class", lambda: self._call_of(plugin, message), passing=(InvalidDataError,))
        except InvalidDataError as error:
            return Replied(no=line(error.summary()))  # the request's fault
        except PluginError as error:
            return Replied(no=message_of(error), failed=True)
        started_ns = time.perf_counter_ns()
        try:
            returned = guarded("optimize", call, passing=(PluginError,))
            duration_us = (time.perf_counter_ns() - started_ns) // 1000
            answer = guarded("reading its answer", lambda: replied(returned))
        except PluginError as error:
            duration_us = (time.perf_counter_ns() - started_ns) // 1000
            answer = Replied(no=message_of(error), failed=True)
        return msgspec.structs.replace(
            answer,
            model_id=answer.model_id or model_id_of(plugin) or None,
            is_trained=is_trained(plugin),
            duration_us=duration_us,
        )

    def _call_of(self, plugin: Plugin, message: Ask) -> Callable[[], object]:
        """Return the call of ``optimize`` with the plugin's own copy of the request; it raises PluginError alone."""
        history: Any = self._history  # an SDK that says list is given any sequence
        if isinstance(plugin, MLPluginInterface):
            data = request_data_of(message)
            return lambda: self._optimized(plugin, lambda: plugin.optimize(data, history))
        request = request_of(message, with_extra=has_model(plugin))

        def optimize() -> object:
            # By default it depends on the type alone, which was asked about when the plugin was opened.
            own = type(plugin).can_handle is not BaseOptimizationPlugin.can_handle
            if own and not can_handle(plugin, request):
                return {"success": False, "error": "it does not take this request"}
            return self._optimized(plugin, lambda: plugin.optimize(request, history))

        return optimize

    def _optimized(self, plugin: Plugin, optimize: Callable[[], object]) -> object:
        def call() -> object:
            if type(plugin).optimize not in _SHOW_IT_THEMSELVES:
                self._show_history(plugin)
            return optimize()

        return guarded("optimize", call)

    def _show_history(self, plugin: Plugin) -> None:
        """Let a model that is trained take its lags from the newest outcomes."""
        if self._history is None or is_trained(plugin) is False:
            return
        use_history = getattr(model_of(plugin), "use_history", None)
        if callable(use_history):
            use_history(self._history)

    def _digest_history(self, plugin: Plugin) -> None:
        """Let it do so now, as it may take some tenths of a second, and requests wait."""
        try:
            guarded("use_history", lambda: self._show_history(plugin))
        except PluginError as error:
            logger.warning("%s", error)  # it will fail again in a request, and be answered there

    def _train(self, message: Train) -> Answer:
        plugin, opening = self._plugin, self._opening
        if plugin is None or opening is None:
            return Broken("train", _NOT_OPEN)
        if not has_model(plugin):
            return Broken("train", "it cannot be trained: it has no train_model")
        points = self._points()
        if not points:
            return Broken("train", "there is no history to train on")
        return self._trained(message, plugin, opening, points)

    def _trained(self, message: Train, plugin: Plugin, opening: Open, points: list[WorkloadDataPoint]) -> Answer:
        circumstances = Circumstances.of(opening, points)
        try:
            duration_ms = train(plugin, points)
        except PluginError as error:
            return Broken("train", message_of(error))
        if is_trained(plugin) is not True and message.replay is not None:
            started = time.monotonic()
            reply = self._ask(message.replay)
            duration_ms += round((time.monotonic() - started) * 1000)
            if reply.no is not None and is_trained(plugin) is False:
                return Broken("train", line(f"after its training it says that it is not trained: {reply.no}"))
        try:
            answer = guarded("saving it", lambda: trained(plugin, circumstances, duration_ms))
        except PluginError as error:
            return Broken("train", message_of(error))
        self._digest_history(plugin)
        return answer

    def _points(self) -> list[WorkloadDataPoint]:
        history = self._history
        if history is None:
            return []
        # The points are to be the plugin's own, not those that later requests look at.
        history.forget_decoded()
        return list(history.since(history.start) or ())

    def _update(self, message: HistoryUpdate) -> None:
        if self._history is None:
            from engine_ops.history.view import HistoryView

            self._history = HistoryView()
        self._history.apply(message)
        if self._plugin is not None:
            self._digest_history(self._plugin)

    def _close(self) -> None:
        plugin, self._plugin = self._plugin, None
        if plugin is not None:
            try:
                guarded("shutdown", plugin.shutdown)
            except PluginError as error:
                logger.warning("%s", error)


def _maker(entry_point: str) -> Callable[[], Plugin]:
    plugin_class = guarded("its import", lambda: load_class(entry_point), passing=(PluginError,))
    return lambda: make_plugin(plugin_class)


def _settings(config: bytes) -> PluginConfig:
    return PluginConfig(config=read_json(config, "config") if config else {})


def _rejected(error: InvalidDataError) -> Broken:
    faults = tuple((line(fault.path), line(fault.message)) for fault in error.faults[:MAX_FAULTS])
    return Broken("config", line(error.summary()), faults)
