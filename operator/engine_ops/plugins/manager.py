"""The plugins of OptimizerPlugin resources: which there are, whom a request goes to, what became of it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from typing import Any, Final, cast

from engine_ops.api.optimizerplugin import OptimizerPluginSpec
from engine_ops.api.reasons import Reason
from engine_ops.engine.request import OptimizationRequest
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.keys import known_at, workload_key
from engine_ops.ml.scoring import RecentOutcomes, actual_values
from engine_ops.plugins.config import PluginConfig
from engine_ops.plugins.fallback import Fallback
from engine_ops.plugins.hosted import HostedPlugin
from engine_ops.plugins.hosting import HistorySource, Hosting, MakeInstance
from engine_ops.plugins.model_store import MemoryModelStore, ModelStore
from engine_ops.plugins.registry import PluginRegistry
from engine_ops.plugins.remote_plugin import RemotePlugin
from engine_ops.plugins.snapshot import PluginSnapshot

logger = logging.getLogger(__name__)

_WARM_AT_A_TIME: Final = 500

_Observation = tuple[str | None, str, Mapping[str, float]]
"""What `RecentOutcomes.observe` takes."""


class PluginManager:
    """Runs plugins as their specs say. Belongs to one event loop.

    Parameters
    ----------
    registry
        Says whom a request goes to. Plugins of the process itself may be in it, too.
    make_instance
        Makes a process, or a client of a service, for a plugin.
    history
        None where none is kept.
    store
        Keeps models; None keeps them as long as the process lives.
    now, sleep
        Seconds since the epoch, and how to wait for some.
    """

    def __init__(
        self,
        registry: PluginRegistry,
        *,
        make_instance: MakeInstance,
        history: HistorySource | None = None,
        store: ModelStore | None = None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        store = store if store is not None else MemoryModelStore()
        self._registry = registry
        self._hosting = Hosting(make_instance, history=history, store=store, now=now, sleep=sleep)
        # The fallback's model is made of the history within a moment: it is not worth keeping beyond the process.
        self._fallback = Fallback(
            dataclasses.replace(self._hosting, store=MemoryModelStore()), on_change=self._fallback_changed
        )
        self._plugins: dict[str, HostedPlugin] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._able: dict[str, object] = {}
        self._version = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._meanwhile: list[_Observation] | None = None
        self._closed = False

    async def apply(self, name: str, spec: OptimizerPluginSpec) -> None:
        """Run a plugin as its spec says, from now on. Returns at once; the last spec counts.

        Parameters
        ----------
        name
            Of the OptimizerPlugin.
        spec
            How it is to run.

        Raises
        ------
        ValueError
            If the name is reserved, or that of a plugin of the process itself.
        """
        if self._closed:
            return
        config = _config_of(spec)
        hosted = self._plugins.get(name)
        if hosted is None:
            hosted = HostedPlugin(name, spec, self._hosting, on_change=lambda: self._changed(name))
            try:
                self._registry.register(RemotePlugin(hosted), config, name=name)
            except ValueError:
                await hosted.close()
                raise
            self._plugins[name] = hosted
        else:
            await hosted.apply(spec)
            entry = self._registry.get(name)
            if entry is not None and entry.config != config:
                self._registry.update_config(name, config)
        self._changed(name)

    async def remove(self, name: str) -> None:
        """End a plugin when its requests in flight have ended, and forget its models. No error where there is none.

        Raises
        ------
        ModelStoreError
            If the models cannot be removed; the plugin has ended.
        """
        hosted = self._plugins.pop(name, None)
        if hosted is None:
            return
        self._registry.unregister(name)
        self._changed(name)
        task = asyncio.get_running_loop().create_task(hosted.close(forget=True))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        await asyncio.shield(task)

    def get(self, name: str) -> HostedPlugin | None:
        """Return a plugin; None where there is none of this name."""
        return self._plugins.get(name)

    def names(self) -> list[str]:
        """Return the names of all plugins."""
        return sorted(self._plugins)

    def awaited(self, request_type: str, states: Container[Reason]) -> list[str]:
        """Name the plugins that may be able to answer a request of a type later, and say what they are in.

        Parameters
        ----------
        request_type
            Of the request.
        states
            Reasons of the condition Ready; plugins in another are left out.

        Returns
        -------
        list of str
            ``name: message`` of each, by name. One that has not been opened is taken to handle what its spec names.
        """
        found = []
        for name in self.names():
            hosted = self._plugins[name]
            listed, opened = hosted.spec.supported_types, hosted.opened
            takes = (listed is None or request_type in listed) and (opened is None or request_type in opened.types)
            snapshot = hosted.snapshot()
            if takes and snapshot.state in states:
                found.append(f"{name}: {snapshot.message}")
        return found

    def select(self, request_type: str, pinned: str | None) -> list[HostedPlugin]:
        """Return the plugins that a request goes to: highest priority first, then by name.

        Parameters
        ----------
        request_type
            Of the request.
        pinned
            The only one to ask; ``none`` for no plugin, None for any.
        """
        # Not validated: it is asked for at every request, and says nothing but its type.
        request = OptimizationRequest.model_construct(None, id="-", type=cast("Any", request_type), data={})
        chosen = self._registry.select(request, plugin=pinned)
        return [each.plugin.hosted for each in chosen if isinstance(each.plugin, RemotePlugin)]

    def fallback(self) -> HostedPlugin | None:
        """Return what predicts ``ml-driven`` requests from the history where no plugin can; None without a history.

        It is started where it does not run, and says no until it is trained; see `Fallback`.
        """
        if self._hosting.history is None or self._closed:
            return None
        return self._fallback.need()

    @property
    def running_fallback(self) -> HostedPlugin | None:
        """What `fallback` returned last, while it runs; nothing is started for it."""
        return self._fallback.hosted

    def outcome(self, key: bytes | None, point: WorkloadDataPoint) -> None:
        """Take note of a point whose outcome is known. To be told of each once, in the order in which they are known.

        Parameters
        ----------
        key
            `engine_ops.history.keys.point_key` of the point; None where it has none.
        point
            The point.
        """
        values = actual_values(point)
        name = key.hex() if key is not None else None
        for hosted in self._all():
            hosted.outcome(name, values)
        observation = (workload_key(point), point.request_type, values)
        self._hosting.baseline.observe(*observation)
        if self._meanwhile is not None:
            self._meanwhile.append(observation)

    async def warm(self, points: Iterable[WorkloadDataPoint]) -> None:
        """Tell the baseline of the history so far. Outcomes may come meanwhile: each counts once, and in its order.

        Parameters
        ----------
        points
            All whose outcome is known by now, those that `outcome` was told of too, in any order.
        """
        meanwhile: list[_Observation] = []
        self._meanwhile = meanwhile
        try:
            known: list[tuple[float, _Observation]] = []
            for point in points:
                observed = (workload_key(point), point.request_type, actual_values(point))
                known.append((known_at(point), observed))
                if len(known) % _WARM_AT_A_TIME == 0:
                    await asyncio.sleep(0)
            known.sort(key=lambda each: each[0])
            # Aside: until it is done, what came since the start is a better baseline than a part of what was before.
            baseline = RecentOutcomes()
            for count, (_, observation) in enumerate(known, start=1):
                baseline.observe(*observation)
                if count % _WARM_AT_A_TIME == 0:
                    await asyncio.sleep(0)
        finally:
            self._meanwhile = None
        for observation in meanwhile:
            baseline.observe(*observation)
        self._hosting.baseline.become(baseline)

    def snapshot(self, name: str) -> PluginSnapshot | None:
        """Return how a plugin stands; None where there is none of this name."""
        hosted = self._plugins.get(name)
        return hosted.snapshot() if hosted is not None else None

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Have a function told the name of each plugin whose snapshot has changed, on the event loop.

        It is called often, and must be quick: counts, latencies and skill change without a call.

        Returns
        -------
        callable
            Ends it.
        """
        self._listeners.append(callback)

        def unsubscribe() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return unsubscribe

    @property
    def version(self) -> int:
        """Counts the changes of who can answer."""
        return self._version

    async def wait_changed(self, after: int) -> int:
        """Wait until who can answer has changed.

        Parameters
        ----------
        after
            A `version`; returns at once if it is not the present one.

        Returns
        -------
        int
            The present version.
        """
        while self._version == after:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)
        return self._version

    async def close(self) -> None:
        """End every plugin, when its requests in flight have ended; keep their models. Idempotent."""
        self._closed = True
        await asyncio.gather(*(hosted.close() for hosted in self._plugins.values()), self._fallback.close())
        await asyncio.gather(*self._leaving, return_exceptions=True)
        for name in list(self._plugins):
            del self._plugins[name]
            self._registry.unregister(name)

    def _all(self) -> Iterable[HostedPlugin]:
        yield from self._plugins.values()
        if self._fallback.hosted is not None:
            yield self._fallback.hosted

    def _fallback_changed(self) -> None:
        # Not under its name: an OptimizerPlugin may have the same.
        self._note_ability("", self._fallback.hosted)

    def _note_ability(self, name: str, hosted: HostedPlugin | None) -> None:
        ability = hosted.ability() if hosted is not None else None
        if self._able.get(name) == ability:
            return
        if ability is None:
            self._able.pop(name, None)
        else:
            self._able[name] = ability
        self._version += 1
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def _changed(self, name: str) -> None:
        self._note_ability(name, self._plugins.get(name))
        for listener in tuple(self._listeners):
            try:
                listener(name)
            except Exception:
                logger.exception("a listener failed at a change of plugin %s", name)


def _config_of(spec: OptimizerPluginSpec) -> PluginConfig:
    return PluginConfig(
        enabled=spec.enabled,
        priority=spec.priority,
        config=spec.config or {},
        limits=spec.limits,
        supported_types=None if spec.supported_types is None else tuple(str(each) for each in spec.supported_types),
    )
