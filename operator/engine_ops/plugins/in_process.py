"""Plugins of this very process: for the library. Nothing keeps them apart from it but a thread and a time limit."""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

from engine_ops.engine.request import OptimizationRequest
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.plugins.base import BaseOptimizationPlugin, Plugin, PluginError, describe_failure
from engine_ops.plugins.messages import Replied
from engine_ops.plugins.registered import Plugins, RegisteredPlugin
from engine_ops.plugins.registry import PluginRegistry
from engine_ops.plugins.remote_plugin import RemotePlugin
from engine_ops.plugins.session_reply import replied

History = Sequence[WorkloadDataPoint]

MIN_SAMPLES: Final = 10
"""Points that `InProcessPlugins.train` needs."""


class InProcessPlugins:
    """Asks the plugins of a registry, each on a thread of its own, with a time limit.

    A thread cannot be killed: a plugin that takes too long goes on in the background, and is left out until it is done.
    Plugins need not be safe for threads: each is asked by one request at a time.

    Parameters
    ----------
    registry
        Which plugins there are.
    timeout_seconds
        For one answer, and for the wait until another request has its own.
    """

    def __init__(self, registry: PluginRegistry, *, timeout_seconds: float) -> None:
        self.registry = registry
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}

    def select(self, request: OptimizationRequest, plugin: str | None) -> Plugins:
        """Return the plugins that a request goes to; see `PluginRegistry.select`. Proxies are not among them."""
        found = self.registry.select(request, plugin=plugin)
        return [entry for entry in found if _runs_here(entry.plugin)]

    def ask(self, entry: RegisteredPlugin, request: OptimizationRequest, history: History | None) -> Replied:
        """Have a plugin answer. Nothing is raised.

        Parameters
        ----------
        entry
            The plugin.
        request
            The question. The plugin gets a copy.
        history
            What happened so far; None where none is kept.

        Returns
        -------
        Replied
            With the plugin's no, or what went wrong, in ``no``; that is told to the registry's listeners, too.
        """
        plugin = entry.plugin
        try:
            reply = replied(self._within(entry.name, lambda: _optimize(plugin, request, history)))
        except PluginError as error:
            reply = Replied(no=str(error), failed=True)
        if reply.no is not None and reply.failed:
            self.registry.report_error(entry.name, reply.no)
        return reply

    def train(self, history: Sequence[WorkloadDataPoint], name: str | None = None) -> list[str]:
        """Train the plugins that can be trained, without a time limit.

        Parameters
        ----------
        history
            What they learn from; at least `MIN_SAMPLES` points.
        name
            The only one; None for all of them.

        Returns
        -------
        list of str
            The names of those that were trained. One that could not be is told to the registry's listeners.

        Raises
        ------
        ValueError
            If there are fewer points.
        """
        if len(history) < MIN_SAMPLES:
            raise ValueError(f"{len(history)} points of history are too few to learn from: {MIN_SAMPLES} are needed")
        points = list(history)
        trained = []
        for entry in self.registry.list():
            train: object = getattr(entry.plugin, "train_model", None)
            if (name is not None and entry.name != name) or not callable(train):
                continue
            with self._turn(entry.name):
                try:
                    train(list(points))
                except Exception as error:  # noqa: BLE001 - foreign code
                    self.registry.report_error(entry.name, f"train_model failed: {describe_failure(error)}")
                    continue
            trained.append(entry.name)
        return trained

    def _turn(self, name: str) -> threading.Lock:
        with self._lock:
            return self._turns.setdefault(name, threading.Lock())

    def _within(self, name: str, call: Callable[[], object]) -> object:
        turn = self._turn(name)
        if not turn.acquire(timeout=self._timeout_seconds):
            raise PluginError(f"it is busy with an earlier request for more than {self._timeout_seconds:g} s")
        done: queue.SimpleQueue[tuple[object, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                returned, failure = call(), None
            except BaseException as error:  # noqa: BLE001 - on this thread nobody else would see it
                returned, failure = None, error
            finally:
                turn.release()
            done.put((returned, failure))

        # No pool's thread: one that never ends must not hold up the end of the process.
        threading.Thread(target=work, name=f"plugin {name}", daemon=True).start()
        try:
            returned, failure = done.get(timeout=self._timeout_seconds)
        except queue.Empty:
            raise PluginError(f"no answer within {self._timeout_seconds:g} s (plugin_timeout_seconds)") from None
        if failure is not None:
            raise PluginError(f"optimize failed: {describe_failure(failure)}") from failure
        return returned


def _runs_here(plugin: Plugin) -> bool:
    return not isinstance(plugin, RemotePlugin)


def _optimize(plugin: Plugin, request: OptimizationRequest, history: History | None) -> object:
    if isinstance(plugin, BaseOptimizationPlugin):
        return plugin.optimize(request.model_copy(deep=True), history)
    data = copy.deepcopy({**request.data, "type": request.type, "constraints": request.constraints or {}})
    # A view of the history is all that the interface promises of a list.
    return plugin.optimize(data, history)  # type: ignore[arg-type]
