"""A manager over scripted instances, a history and a clock, for tests of the life of plugins."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec

from scripted_instances import Clock, World, ask_of, settled, spec_of

from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.plugins.hosted import HostedPlugin
from engine_ops.plugins.manager import PluginManager
from engine_ops.plugins.model_store import ModelStore
from engine_ops.plugins.registry import PluginRegistry
from engine_ops.plugins.said import Said
from engine_ops.plugins.snapshot import PluginSnapshot

P = ParamSpec("P")


def on_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on a loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class History:
    def __init__(self, world: World) -> None:
        self._world = world

    def points(self) -> int:
        return self._world.points


class Stage:
    """Everything around one plugin, ``a``."""

    def __init__(self, *, store: ModelStore | None = None, history: bool = True, points: int = 0) -> None:
        self.world = World()
        self.world.points = points
        self.clock = Clock()
        self.registry = PluginRegistry()
        self.manager = PluginManager(
            self.registry,
            make_instance=self.world.make,
            history=History(self.world) if history else None,
            store=store,
            now=self.clock,
            sleep=self.clock.sleep,
        )
        self.count = 0
        self.asked_type = "resource"

    async def apply(self, name: str = "a", **fields: Any) -> None:
        await self.manager.apply(name, spec_of(**fields))
        await settled()

    @property
    def plugin(self) -> HostedPlugin:
        plugin = self.manager.get("a")
        assert plugin is not None
        return plugin

    @property
    def snapshot(self) -> PluginSnapshot:
        return self.plugin.snapshot()

    async def ask(self, request_type: str = "resource", *, needs_prediction: bool = False) -> Said:
        self.count += 1
        self.asked_type = request_type
        key = self.count.to_bytes(16, "big")
        said = await self.plugin.ask(ask_of(request_type), point=key, workload=None, needs_prediction=needs_prediction)
        await settled()
        return said

    async def outcome(self, duration_ms: float, key: int | None = None) -> None:
        self.world.points += 1
        number = self.count if key is None else key
        point = WorkloadDataPoint(0, self.asked_type, {}, duration_ms, True, {})
        self.manager.outcome(number.to_bytes(16, "big"), point)
        await settled()

    async def requests(self, count: int, *, around: float = 5000.0, request_type: str = "resource") -> None:
        """Ask, and tell the outcomes: they go up and down, so that the median of the last five is always wrong."""
        for index in range(count):
            await self.ask(request_type)
            await self.outcome(around * (0.8, 1.25)[index % 2])

    async def train(self, points: int = 10) -> None:
        self.world.points = max(self.world.points, points)
        await self.clock.pass_by(11)


@asynccontextmanager
async def stage(**options: Any) -> AsyncIterator[Stage]:
    """A stage, and the proof that nothing is left of it."""
    before = asyncio.all_tasks()
    made = Stage(**options)
    try:
        yield made
    finally:
        if made.world.hold_asks is not None:
            made.world.hold_asks.set()
        await made.manager.close()
    await settled()
    assert asyncio.all_tasks() == before
    assert made.world.alive == []
    assert made.registry.list() == []
