"""Plugins without processes, for tests of their life: they do what a test tells them, when it tells them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from engine_ops.api.optimizerplugin import OptimizerPluginSpec
from engine_ops.plugins.instance import (
    Counters,
    LastError,
    Latency,
    PluginBrokenError,
    PluginUnavailableError,
    Unanswered,
)
from engine_ops.plugins.messages import Ask, Opened, Replied, Trained

ENTRY_POINT = "examples.plugin:Plugin"
ALL_TYPES = ("ml-driven", "performance", "resource", "scheduling")


class Clock:
    """Time that passes when a test says so. Sleepers wake in their order."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        entry = (self.now + seconds, future)
        self._sleepers.append(entry)
        try:
            await future
        finally:
            self._sleepers.remove(entry)

    async def pass_by(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            await settled()
            due = [entry for entry in self._sleepers if entry[0] <= until and not entry[1].done()]
            if not due:
                break
            moment = min(entry[0] for entry in due)
            self.now = max(self.now, moment)
            for at, future in due:
                if at <= moment:
                    future.set_result(None)
        self.now = until
        await settled()


async def settled() -> None:
    """Let everything run that can without time passing."""
    for _ in range(60):
        await asyncio.sleep(0)


class World:
    """What all scripted instances do, and what became of them."""

    def __init__(self) -> None:
        self.instances: list[ScriptedInstance] = []
        self.types: tuple[str, ...] = ALL_TYPES
        self.has_model = True
        self.shows_training: bool = True
        self.saves = True
        self.broken: dict[str, PluginBrokenError] = {}
        self.rejected_configs: list[dict[str, Any]] = []
        self.unavailable = False
        self.prediction: dict[str, float] = {"expected_duration": 5000.0}
        self.predictions: dict[str, dict[str, float]] = {}
        self.says_no: str | None = None
        self.unanswered: Unanswered | None = None
        self.trained_count = 0
        self.training_now = 0
        self.most_at_once = 0
        self.points = 0
        self.hold_starts: asyncio.Event | None = None
        self.hold_trainings: asyncio.Event | None = None
        self.hold_asks: asyncio.Event | None = None

    def make(
        self, name: str, spec: OptimizerPluginSpec, state: bytes, on_change: Callable[[], None], /
    ) -> ScriptedInstance:
        instance = ScriptedInstance(self, name, spec, state, on_change)
        self.instances.append(instance)
        return instance

    @property
    def alive(self) -> list[ScriptedInstance]:
        return [instance for instance in self.instances if instance.started and not instance.closed]


class ScriptedInstance:
    def __init__(
        self, world: World, name: str, spec: OptimizerPluginSpec, state: bytes, on_change: Callable[[], None]
    ) -> None:
        self.world, self.name, self.spec, self.state = world, name, spec, state
        self.on_change = on_change
        self.model = state.decode()
        self.opened: Opened | None = None
        self.degraded: str | None = None
        self.unavailable: str | None = None
        self.last_error: LastError | None = None
        self.counters = Counters()
        self.latency = Latency()
        self.started = self.closed = False
        self.asks: list[Ask] = []
        self.in_flight = 0
        self.trained = 0

    async def start(self) -> Opened:
        world = self.world
        if world.hold_starts is not None:
            await world.hold_starts.wait()
        if world.unavailable:
            raise PluginUnavailableError("the plugin host does not answer")
        if (self.spec.config or {}) in world.rejected_configs:
            raise PluginBrokenError("config", "config.scale: must be a number", (("config.scale", "must be a number"),))
        for stage in ("import", "init"):
            if stage in world.broken:
                raise world.broken[stage]
        if self.state and "load" in world.broken:
            raise world.broken["load"]
        self.started = True
        self.opened = self._opened()
        return self.opened

    def _opened(self) -> Opened:
        return Opened(
            self.name,
            "1.2.3",
            "A test",
            self.world.types,
            has_model=self.world.has_model,
            is_trained=bool(self.model) if self.world.shows_training else None,
            model_id="m",
        )

    async def ask(self, ask: Ask, *, timeout_seconds: float | None = None) -> Replied | Unanswered:
        if self.closed:
            return Unanswered("it is being replaced or removed", "closing")
        self.in_flight += 1
        try:
            self.asks.append(ask)
            self.counters.asked += 1
            if self.world.hold_asks is not None:
                await self.world.hold_asks.wait()
            await asyncio.sleep(0)
        finally:
            self.in_flight -= 1
        if self.world.unanswered is not None:
            return self.world.unanswered
        if self.world.says_no is not None:
            return Replied(no=self.world.says_no, is_trained=bool(self.model))
        self.counters.answered += 1
        scored = self.world.predictions.get(self.model, self.world.prediction)
        return Replied(
            envelope=msgspec.json.encode({"success": True, "result": scored, "model": self.model}),
            scored=scored,
            model_id="m",
            claimed_confidence=0.5,
            is_trained=bool(self.model),
        )

    async def train(self, timeout_seconds: float, replay: Ask | None = None) -> Trained:
        world = self.world
        world.training_now += 1
        world.most_at_once = max(world.most_at_once, world.training_now)
        try:
            points = world.points
            if world.hold_trainings is not None:
                await world.hold_trainings.wait()
            await asyncio.sleep(0)
            if "train" in world.broken:
                raise world.broken["train"]
        finally:
            world.training_now -= 1
        world.trained_count += 1
        self.model = f"model-{world.trained_count}"
        self.opened = self._opened()
        state = self.model.encode() if world.saves else b""
        self.state = state
        return Trained("m", points, digest_of(self.model), state=state, is_trained=True)

    def set_state(self, state: bytes) -> None:
        self.state = state

    def blame(self, reason: str) -> None:
        self.counters.failures += 1

    def crash(self) -> None:
        """The process ends and is started anew, with the state that it had."""
        self.counters.crashes += 1
        self.counters.restarts += 1
        self.model = self.state.decode()
        self.opened = self._opened()
        self.on_change()

    def retire(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True
        while self.in_flight:  # noqa: ASYNC110 - it is over within a few turns of the loop
            await asyncio.sleep(0)


def digest_of(model: str) -> str:
    return f"sha256:{hashlib.sha256(model.encode()).hexdigest()}"


def spec_of(**fields: Any) -> OptimizerPluginSpec:
    return OptimizerPluginSpec.model_validate({"source": {"entryPoint": ENTRY_POINT}, **fields})


def ask_of(request_type: str = "resource", name: str = "r") -> Ask:
    return Ask(name, request_type, b"{}")
