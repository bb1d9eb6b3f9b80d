"""No model is ever scored on an outcome that it could have known when it predicted."""

from __future__ import annotations

import asyncio
from typing import Any

from hosted_world import Stage
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_instances import ScriptedInstance, ask_of, settled

from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.scoring import RecentOutcomes
from engine_ops.plugins.messages import Ask, Replied
from engine_ops.plugins.model_store import MemoryModelStore

GATES = st.sampled_from(("proven", "none"))
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.just(0)),
        st.tuples(st.just("ask"), st.just(0)),
        st.tuples(st.just("ask and hold"), st.just(0)),
        st.tuples(st.just("let go"), st.just(0)),
        st.tuples(st.just("outcome"), st.integers(0, 5)),
        st.tuples(st.just("outcome"), st.integers(0, 5)),
        st.tuples(st.just("ask again"), st.integers(0, 5)),
        st.tuples(st.just("train"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("crash"), st.just(0)),
    ),
    max_size=60,
)


class Life:
    """Plugins whose every process knows all outcomes there are at the moment, and keeps a record of when it spoke."""

    def __init__(self, gate: str) -> None:
        self.store = MemoryModelStore()
        self.training = {"gate": gate, "retrain": {"afterSamples": 3}}
        self.count = 0
        self.open: list[str] = []
        self.outcomes: dict[str, float] = {}
        self.expected = RecentOutcomes()

    async def start(self) -> Stage:
        on = Stage(store=self.store, points=10 + len(self.outcomes))
        life = self
        ask_it = ScriptedInstance.ask

        async def ask(instance: ScriptedInstance, ask: Ask, **limits: Any) -> Any:
            reply = await ask_it(instance, ask, **limits)
            if isinstance(reply, Replied):
                # One second where the outcome is known already: whoever is scored on that was not honest.
                known = ask.request_id in life.outcomes
                return Replied(
                    reply.envelope, scored={"expected_duration": 1000.0 if known else 7.0e6}, is_trained=True
                )
            return reply

        made = on.world.make

        def make(*arguments: Any) -> ScriptedInstance:
            instance = made(*arguments)
            instance.ask = ask.__get__(instance)  # type: ignore[method-assign]
            return instance

        on.manager._hosting.__dict__["make_instance"] = make
        on.manager._hosting.baseline.become(self.baseline())
        await on.apply(training=self.training)
        await on.clock.pass_by(11)
        return on

    def baseline(self) -> RecentOutcomes:
        baseline = RecentOutcomes()
        for duration_ms in (5000.0, *self.outcomes.values()):
            baseline.observe(None, "resource", {"expected_duration": duration_ms})
        return baseline

    async def ask(self, on: Stage, key: str) -> None:
        asking = asyncio.create_task(
            on.plugin.ask(ask_of("resource", key), point=bytes.fromhex(key), workload=None, needs_prediction=False)
        )
        await settled()
        if on.world.hold_asks is None:
            await asking

    async def outcome(self, on: Stage, key: str) -> None:
        self.outcomes[key] = 1000.0
        self.open.remove(key)
        on.world.points += 1
        on.manager.outcome(bytes.fromhex(key), WorkloadDataPoint(0, "resource", {}, 1000.0, True, {}))
        await settled()

    async def run(self, events: list[tuple[str, int]]) -> int:
        on = await self.start()
        scored = 0
        for event, number in events:
            hold = on.world.hold_asks
            if event.startswith("ask") and (event != "ask again" or self.open):
                if event == "ask and hold" and hold is None:
                    on.world.hold_asks = asyncio.Event()
                if event == "ask again":
                    key = self.open[number % len(self.open)]
                else:
                    self.count += 1
                    key = self.count.to_bytes(16, "big").hex()
                    self.open.append(key)
                await self.ask(on, key)
            elif event == "outcome" and self.open:
                await self.outcome(on, self.open[number % len(self.open)])
            elif event == "train":
                await on.clock.pass_by(11)
            elif event == "crash" and on.world.alive:
                on.world.alive[-1].crash()
                await settled()
            elif event in ("restart", "let go") and hold is not None:
                on.world.hold_asks = None
                hold.set()
                await settled()
            if event == "restart":
                await on.manager.close()
                on = await self.start()
            scored += self.check(on)
        if on.world.hold_asks is not None:
            on.world.hold_asks.set()
        await on.manager.close()
        return scored

    def check(self, on: Stage) -> int:
        points = []
        for model in on.plugin._state.lineup.shelf:
            for each in model.tracker.scored:
                assert each.losses["expected_duration"] > 1, "it knew the outcome when it was asked"
                points.append((model.digest, each.point))
        assert len(points) == len(set(points)), "an outcome counts once for each model"
        return len(points)


@settings(max_examples=60)
@given(GATES, EVENTS)
def test_what_was_said_when_the_outcome_was_known_is_not_scored(gate: str, events: list[tuple[str, int]]) -> None:
    asyncio.run(Life(gate).run(events))


def test_what_was_said_before_is() -> None:
    events = [("ask", 0), ("ask", 0), ("outcome", 0), ("restart", 0), ("outcome", 0)]
    for gate in ("proven", "none"):
        assert asyncio.run(Life(gate).run(events)) >= 2
