"""From a request that names a Job to the score of what a plugin predicted: every key on the way is the same."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from hosted_world import on_a_loop
from outcomes_cluster import MINUTE_MS, Cluster
from scripted_instances import Clock, World, settled, spec_of

from engine_ops.api import status as statuses
from engine_ops.api.optimizationrequest import OptimizationRequestSpec
from engine_ops.api.reasons import Reason
from engine_ops.api.status import Attempt
from engine_ops.controllers.history_keeper import HistoryKeeper
from engine_ops.controllers.plugin_running import listen
from engine_ops.controllers.posed import Heard, Posed, ask_aside, hear
from engine_ops.controllers.solving import task_for
from engine_ops.controllers.turns import Turns
from engine_ops.controllers.view import RequestView
from engine_ops.history.facts import Asked
from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.history.outcomes.collector import OutcomeCollector
from engine_ops.kube.target import Target
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.scoring import RecentOutcomes
from engine_ops.plugins.hosted import HostedPlugin
from engine_ops.plugins.manager import PluginManager
from engine_ops.plugins.model_store import MemoryModelStore
from engine_ops.plugins.registry import PluginRegistry
from engine_ops.plugins.scored import Scored

JOB: dict[str, Any] = {"workloadRef": {"kind": "Job", "name": "nightly"}}


@dataclasses.dataclass
class Place:
    """What outlives an operator: the cluster, the requests in it, the history and the models."""

    cluster: Cluster = dataclasses.field(default_factory=Cluster)
    requests: dict[str, RequestView] = dataclasses.field(default_factory=dict)
    history: MemoryStore = dataclasses.field(default_factory=MemoryStore)
    models: MemoryModelStore = dataclasses.field(default_factory=MemoryModelStore)

    def make(self, uid: str = "u", generation: int = 1) -> None:
        before = self.requests.get(uid)
        status = before.status if before is not None else {}
        self.requests[uid] = RequestView(Target("jobs", uid, uid, generation), deleting=False, spec={}, status=status)


class Operator:
    """The real history, outcomes, keeper and manager; only the processes are played."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.world = World()
        self.clock = Clock(place.cluster.now_ms / 1000)
        self.log = HistoryLog(place.history, clock=lambda: place.cluster.now_ms, lag_ms=0)
        self.outcomes = OutcomeCollector(self.log, place.cluster, clock=lambda: place.cluster.now_ms)
        self.keeper = HistoryKeeper(self.log, outcome_window_ms=86_400_000, opened=lambda: None)
        self.manager = PluginManager(
            PluginRegistry(),
            make_instance=self.world.make,
            history=self,
            store=place.models,
            now=self.clock,
            sleep=self.clock.sleep,
        )
        listen(self.log, self.manager)

    def points(self) -> int:
        return len(self.log.collector)

    def plugin(self, name: str) -> HostedPlugin:
        plugin = self.manager.get(name)
        assert plugin is not None
        return plugin

    def scored(self, name: str = "a") -> list[Scored]:
        """What was scored of the one model that the plugin has."""
        roles = self.plugin(name)._state.lineup.roles
        model = roles.active or roles.candidate
        assert model is not None
        return list(model.tracker.scored)

    async def apply(self, name: str = "a", **fields: Any) -> None:
        """Run a plugin, with a model."""
        await self.manager.apply(name, spec_of(**{"training": {"gate": "none", "minSamples": 1}, **fields}))
        await settled()
        await self.clock.pass_by(11)

    async def solve(self, *names: str, uid: str = "u", run: int = 1, dies: str = "", **fields: Any) -> bool:
        """Have a request answered by the first plugin of those that has an answer, and its status written."""
        spec = OptimizationRequestSpec.model_validate({"type": "resource", "data": {"workload_size": 1}, **fields})
        view = self.place.requests[uid]
        started = datetime.datetime.fromtimestamp(self.place.cluster.now_ms / 1000, datetime.UTC)
        attempt = Attempt(view.status, view.target.generation, run, started)
        task = task_for(spec, json.dumps(spec.data).encode(), task_id="t", asks_plugins=True)
        answered = False
        async with Turns(1).take() as turn:
            posed = Posed(view.target, attempt, spec, task, turn)
            for place, name in enumerate(names):
                if isinstance(await hear(posed, self.plugin(name)), Heard):
                    ask_aside(posed, [self.plugin(each) for each in names[place + 1 :]])
                    answered = True
                    break
        await settled()
        solution = statuses.Solution({}, Reason.SOLVED, "", {"durationMs": 5}, {"algorithm": "a"})
        status = statuses.answered(attempt, solution, started)
        self.keeper.sign(view.target, attempt, status, Asked.of(spec, {}))
        if dies == "before":
            return answered
        if self.place.requests[uid].target != view.target:
            self.keeper.missed(view.target)
            return answered
        stored: Mapping[str, Any] = msgspec.json.decode(msgspec.json.encode(status))
        self.place.requests[uid] = dataclasses.replace(self.place.requests[uid], status=stored)
        if dies != "after":
            self.keeper.landed(view.target)
        return answered

    async def run_job(self, minutes: int, name: str = "nightly", **fields: Any) -> None:
        """A Job runs for so long, and its outcome is joined."""
        job = self.place.cluster.add_job(name, **fields)
        await self.pass_by(minutes)
        self.place.cluster.end_job(job)
        await self.outcomes.step()
        await self.pass_by(6)
        self.place.cluster.delete_job(job)

    async def pass_by(self, minutes: int) -> None:
        for _ in range(minutes):
            self.place.cluster.pass_time(MINUTE_MS)
            await self.outcomes.step()
        await settled()


@asynccontextmanager
async def operator(place: Place) -> AsyncIterator[Operator]:
    made = Operator(place)
    await made.log.load()
    await made.manager.warm(made.log.collector.select().points())
    for view in place.requests.values():
        made.keeper.note(view)
    try:
        yield made
    finally:
        await made.log.flush()
        await made.manager.close()


@asynccontextmanager
async def with_a_model(**fields: Any) -> AsyncIterator[tuple[Place, Operator]]:
    """An operator whose plugin ``a`` was trained on one Job of ten minutes, and predicts twenty."""
    place = Place()
    place.make("first")
    async with operator(place) as on:
        await on.solve(uid="first", **JOB)
        await on.run_job(10)
        on.world.prediction = {"expected_duration": 20.0 * MINUTE_MS, "success_rate": 1.0}
        await on.apply(**fields)
        place.make()
        yield place, on


def losses(scored: Scored) -> tuple[dict[str, float], dict[str, float]]:
    def short(found: Mapping[str, float]) -> dict[str, float]:
        return {key: round(value, 2) for key, value in found.items()}

    return short(scored.losses), short(scored.baseline_losses)


# Of twenty minutes: the plugin is right, and the median of what was before, ten minutes, is wrong by ln 2.
RIGHT = ({"expected_duration": 0.0, "success_rate": 0.0}, {"expected_duration": 0.69, "success_rate": 0.0})


@on_a_loop
async def test_what_was_predicted_for_a_job_is_scored_when_it_ends() -> None:
    async with with_a_model() as (_, on):
        assert await on.solve("a", **JOB)
        assert on.scored() == []
        await on.run_job(20)
        (scored,) = on.scored()
        assert losses(scored) == RIGHT
        assert set(scored.within.values()) == {True}


@on_a_loop
async def test_a_workload_has_one_key_from_the_question_to_the_outcome() -> None:
    async with with_a_model() as (place, on):
        # Of the same type another Job takes five minutes, again and again: the workload's own outcomes are closer.
        for number in range(6):
            place.make(f"other-{number}")
            await on.solve(uid=f"other-{number}", workloadRef={"kind": "Job", "name": "quick"})
            await on.run_job(5, "quick")
        await on.solve("a", **JOB)
        await on.run_job(20)
        assert losses(on.scored()[-1]) == RIGHT


@on_a_loop
async def test_pods_by_label_have_one_key_too() -> None:
    selector: dict[str, Any] = {"workloadSelector": {"matchLabels": {"tier": "web", "app": "shop"}}}
    async with with_a_model() as (place, on):
        place.make("before")
        await on.solve(uid="before", **selector)
        for index, minutes in enumerate((40, 20)):
            if index:
                await on.solve("a", **selector)
            pod = place.cluster.add_pod("p", namespace="jobs", labels={"app": "shop", "tier": "web"})
            await on.pass_by(minutes)
            place.cluster.end_pod(pod)
            await on.pass_by(10)
            place.cluster.delete_pod(pod)
        (scored,) = on.scored()
        (point,) = [point for point in on.log.collector.select() if point.metadata["uid"] == "u"]
        assert point.metadata["workload"]["kind"] == "Selector"
        asked = on.world.alive[-1].asks[-1]
        assert json.loads(asked.extra)["workload"] == point.metadata["workload"] | {}
        assert round(scored.baseline_losses["expected_duration"], 2) == 0.69, "forty minutes, and not ten"


@on_a_loop
async def test_a_standing_request_is_scored_for_each_of_its_runs() -> None:
    async with with_a_model() as (_, on):
        for run in (1, 2, 3):
            await on.solve("a", run=run, **JOB)
            await on.run_job(20)
        assert len(on.scored()) == 3
        assert on.scored()[-1].baseline_losses["expected_duration"] == pytest.approx(0.0, abs=0.01)


@on_a_loop
async def test_an_answer_to_a_question_that_has_changed_is_not_scored_by_the_new_ones_outcome() -> None:
    async with with_a_model() as (place, on):
        await on.solve("a", dies="before", **JOB)
        place.make(generation=2)
        on.keeper.note(place.requests["u"])
        on.world.prediction = {"expected_duration": 40.0 * MINUTE_MS}
        await on.solve("a", **JOB)
        await on.run_job(20)
        (scored,) = on.scored()
        assert round(scored.losses["expected_duration"], 2) == 0.69


@on_a_loop
async def test_a_plugin_behind_the_one_that_answered_is_scored_on_the_same_outcome() -> None:
    async with with_a_model() as (_, on):
        await on.apply("b")
        await on.apply("c", mode="shadow")
        assert await on.solve("c", "a", "b", **JOB)
        await on.run_job(20)
        points = [(scored.point, losses(scored)) for name in "abc" for scored in on.scored(name)]
        assert len(points) == 3
        assert len(set(map(str, points))) == 1


@on_a_loop
async def test_one_that_says_no_is_not_scored_and_the_next_is() -> None:
    async with with_a_model() as (_, on):
        await on.apply("b")
        b = on.world.alive[-1]
        assert b.name == "b"
        b.world = World()
        b.world.says_no = "not today"
        assert await on.solve("b", "a", **JOB)
        await on.run_job(20)
        assert (len(on.scored("b")), len(on.scored("a"))) == (0, 1)


@pytest.mark.parametrize("dies", ["", "after"])
@on_a_loop
async def test_a_prediction_outlives_the_operator_that_asked_for_it(dies: str) -> None:
    async with with_a_model() as (place, on):
        await on.solve("a", dies=dies, **JOB)
    async with operator(place) as on:
        await on.apply()
        assert on.world.trained_count == 0
        await on.run_job(20)
        (scored,) = on.scored()
        assert losses(scored) == RIGHT


@on_a_loop
async def test_an_outcome_that_is_known_already_is_not_scored_again() -> None:
    async with with_a_model() as (place, on):
        await on.solve("a", **JOB)
        await on.run_job(20)
        assert len(on.scored()) == 1
    async with operator(place) as on:
        await on.apply()
        for view in place.requests.values():
            on.keeper.note(view)
        await on.pass_by(10)
        assert len(on.scored()) == 1


def job_point(number: int, minutes: float) -> WorkloadDataPoint:
    metadata = {
        "uid": f"u{number}",
        "generation": 1,
        "run": 1,
        "workload": {"kind": "Job", "namespace": "n", "name": "j"},
    }
    return WorkloadDataPoint(number * MINUTE_MS, "resource", {}, minutes * MINUTE_MS, True, metadata)


@on_a_loop
async def test_the_baseline_learns_each_outcome_once_and_in_order_though_some_come_while_it_reads_the_rest() -> None:
    async with operator(Place()) as on:
        expected = RecentOutcomes()
        for number in range(1200):
            on.log.collector.record(job_point(number, number % 7))  # as if read of the store
        on.log.record(job_point(1200, 30), on.log.stamp())
        warming = on.manager.warm(on.log.collector.select().points())
        try:
            late = 1201
            while True:
                warming.send(None)
                on.log.record(job_point(late, 50), on.log.stamp())
                late += 1
        except StopIteration:
            pass
        assert late > 1202, "it lets others run"
        for point in on.log.collector.select():
            expected.observe("n/Job/j", "resource", {"expected_duration": point.duration, "success_rate": 1.0})
        assert on.manager._hosting.baseline._recent == expected._recent
