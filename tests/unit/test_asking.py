"""The order of things for one request: plugins by turns, the built-in beside them, and who is served in the end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import json
from collections.abc import AsyncIterator, Callable, Container, Coroutine, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import run_in_virtual_time

from engine_ops.api.optimizationrequest import OptimizationRequestSpec
from engine_ops.api.reasons import Reason
from engine_ops.api.status import Attempt
from engine_ops.controllers.asking import Asking
from engine_ops.controllers.cluster_input import ClusterInput
from engine_ops.controllers.posed import Posed
from engine_ops.controllers.solving import Answered, solution_of, task_for
from engine_ops.controllers.turns import Turn, Turns
from engine_ops.engine.cluster.records import ClusterSnapshot
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.history.keys import key_of
from engine_ops.kube.target import Target
from engine_ops.plugins.judging import respond
from engine_ops.plugins.messages import Ask
from engine_ops.plugins.said import Said
from engine_ops.workers.errors import WorkerDiedError, WorkerTimeoutError
from engine_ops.workers.messages import Failed, Outcome, Solved, SolveTask
from engine_ops.workers.solve import evaluate

PACKING = {
    "items": [{"id": "a", "cpu": 1, "memory": "1Gi", "count": 2}, {"id": "b", "cpu": 2, "memory": "1Gi"}],
    "nodeCapacity": {"cpu": 2, "memory": "8Gi"},
}
BEST = {"result": {"nodes": [{"items": [{"id": "a", "count": 2}]}, {"items": [{"id": "b"}]}]}}
WORSE = {"result": {"nodes": [{"items": [{"id": "a"}]}, {"items": [{"id": "a"}]}, {"items": [{"id": "b"}]}]}}
NONSENSE = {"result": {"nodes": [{"items": [{"id": "nobody"}]}]}}
PREDICTION = {"result": {"expected_duration": 5.0}, "model_id": "trees"}
TARGET = Target("n", "a", "u", 3)
STARTED = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)

Reply = Mapping[str, Any] | Said | Exception | None


class Scripted:
    """A plugin whose replies are listed; the last one is given for ever. None is silence."""

    def __init__(self, name: str, *replies: Reply) -> None:
        self.name = name
        self.replies = list(replies)
        self.asks: list[Ask] = []
        self.keys: list[tuple[bytes | None, str | None, bool]] = []
        self.aside = 0
        self.fates: list[tuple[bool, str, bool]] = []
        self.left_out_times = self.passed_over_times = 0
        self.speaks = asyncio.Event()
        """A silent plugin says its next reply then."""
        self.cancelled = 0

    async def ask(self, ask: Ask, *, point: bytes | None, workload: str | None, needs_prediction: bool) -> Said:
        self.asks.append(ask)
        self.keys.append((point, workload, needs_prediction))
        reply = self._next()
        if reply is None:
            try:
                await self.speaks.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            reply = self._next()
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, Said):
            return reply
        return Said(self.name, "1.2.3", msgspec.json.encode(reply), model_id="m", confidence=0.75)

    def _next(self) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def shadow(self, ask: Ask, *, point: bytes | None, workload: str | None) -> None:
        self.aside += 1

    def judged(self, *, served: bool, no: str, unusable: bool) -> None:
        self.fates.append((served, no, unusable))

    def left_out(self) -> None:
        self.left_out_times += 1

    def passed_over(self) -> None:
        self.passed_over_times += 1


def no(why: str, **options: Any) -> Said:
    return Said("any", no=why, **options)


class Pool:
    """Solves in this process; a test may hold up the built-in, or put errors in place of answers."""

    def __init__(self) -> None:
        self.tasks: list[SolveTask] = []
        self.held = asyncio.Event()
        self.held.set()
        self.on_judging: Callable[[], Outcome] | None = None
        self.on_built_in: Callable[[], Outcome] | None = None
        self.cancelled = 0

    async def run(self, task: SolveTask, *, timeout_seconds: float, on_incumbent: Any = None) -> Outcome:
        assert timeout_seconds > 0
        self.tasks.append(task)
        instead = self.on_judging if task.reply is not None else self.on_built_in
        if instead is not None:
            return instead()
        if task.reply is None:
            try:
                await self.held.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if on_incumbent is not None and task.built_in is None:
            on_incumbent(INCUMBENT)
        return evaluate(task, respond=respond)

    @property
    def kinds(self) -> list[str]:
        """What the workers were given: the request alone, with a reply, or with that and the built-in's answer."""
        return ["alone" if task.reply is None else "beside" if task.built_in else "with" for task in self.tasks]


INCUMBENT = Solved(b"{}", 2, 0, "Solved", "so far", "a", "1")


@dataclasses.dataclass
class World:
    """Plugins, a pool, and requests to ask of them."""

    plugins: Sequence[Scripted]
    fallback: Scripted | None = None
    late: int = 8
    can_wait: bool = False
    turns: int = 1
    others: dict[str, tuple[Reason, str]] = dataclasses.field(default_factory=dict)
    """How plugins are that are not selected."""

    def __post_init__(self) -> None:
        self.pool = Pool()
        pool: Any = self.pool
        self.selected: list[tuple[str, str | None]] = []
        self.asking = Asking(pool, Selected(self), late=self.late, can_wait=self.can_wait)
        self.all_turns = Turns(self.turns)
        self.incumbents: list[Solved] = []

    async def ask(self, data: Any = PACKING, **spec: Any) -> Answered | Failed:
        async with self.all_turns.take() as turn:
            return await self.asking.answer(self.posed(turn, data, **spec))

    async def ask_of_cluster(self, snapshot: ClusterSnapshot, request_type: str) -> Answered | Failed:
        async with self.all_turns.take() as turn:
            posed = self.posed(turn, {}, type=request_type)
            given_to = ClusterInput.of(snapshot, ClusterSelection(), request_type)
            cluster = {"cluster": given_to.snapshot, "selection": given_to.selection}
            return await self.asking.answer(
                dataclasses.replace(posed, task=msgspec.structs.replace(posed.task, **cluster))
            )

    def posed(self, turn: Any, data: Any, **fields: Any) -> Posed:
        spec = OptimizationRequestSpec.model_validate({"type": "resource", "searchSeconds": 0, "data": {}, **fields})
        task = task_for(spec, json.dumps(data).encode(), task_id="t", asks_plugins=True)
        return Posed(TARGET, Attempt({}, 3, 7, STARTED), spec, task, turn, self.incumbents.append)


class Selected:
    """The plugins of a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def select(self, request_type: str, pinned: str | None) -> Sequence[Scripted]:
        self._world.selected.append((request_type, pinned))
        return [plugin for plugin in self._world.plugins if pinned in (None, plugin.name)]

    def fallback(self) -> Scripted | None:
        return self._world.fallback

    def awaited(self, request_type: str, states: Container[Reason]) -> Sequence[str]:
        del request_type
        return [f"{name}: {message}" for name, (state, message) in self._world.others.items() if state in states]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    run_in_virtual_time(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 -- what is waited for is not this test's to announce
        await asyncio.sleep(0.001)


def answered(outcome: Answered | Failed) -> Answered:
    assert isinstance(outcome, Answered), outcome
    return outcome


def failed(outcome: Answered | Failed) -> tuple[str, str]:
    assert isinstance(outcome, Failed), outcome
    assert outcome.waiting
    return outcome.reason, outcome.message


def by(outcome: Answered | Failed) -> dict[str, Any]:
    found = answered(outcome)
    options = {"share": found.share, "fallback_reason": found.fallback_reason}
    return dict(solution_of(found.solved, **options).solved_by)


OWN = {"name": "first-fit-decreasing", "algorithm": "first-fit-decreasing"}


def is_own(solved_by: dict[str, Any], reason: str) -> bool:
    return (
        {name: solved_by.get(name) for name in OWN} == OWN
        and "plugin" not in solved_by
        and solved_by.get("fallbackReason") == reason
    )


def test_the_first_plugin_is_served_and_those_behind_it_are_scored_aside() -> None:
    async def test() -> None:
        world = World([Scripted("first", BEST), Scripted("second", BEST)])
        outcome = await world.ask()
        assert by(outcome) == {
            "name": "first",
            "plugin": "first",
            "role": "answer",
            "version": "1.2.3",
            "modelId": "m",
            "confidence": 0.75,
        }
        first, second = world.plugins
        assert (first.fates, first.aside) == ([(True, "", False)], 0)
        assert (second.asks, second.aside) == ([], 1)
        assert world.pool.kinds == ["with"]

    run(test)


def test_a_plugin_sees_the_request_and_what_it_is_scored_by() -> None:
    async def test() -> None:
        world = World([Scripted("p", BEST)])
        await world.ask(workloadRef={"kind": "Job", "name": "nightly"}, constraints={"maxNodes": 4})
        ((point, workload, needs_prediction),) = world.plugins[0].keys
        assert (point, workload, needs_prediction) == (key_of("u", 3, 7), "n/Job/nightly", False)
        (ask,) = world.plugins[0].asks
        assert json.loads(ask.data) == PACKING
        assert json.loads(ask.constraints) == {"maxNodes": 4}
        assert json.loads(ask.extra) == {
            "timestamp": 1767323045000,
            "namespace": "n",
            "workload": {"namespace": "n", "kind": "Job", "name": "nightly"},
        }

    run(test)


def test_without_plugins_the_built_in_answers_and_nothing_is_said_of_them() -> None:
    async def test() -> None:
        world = World([])
        assert set(by(await world.ask())) == {"name", "algorithm", "version"}
        assert world.pool.kinds == ["alone"]
        assert world.incumbents == [INCUMBENT]

    run(test)


def test_none_asks_nobody() -> None:
    async def test() -> None:
        world = World([Scripted("p", BEST)])
        assert set(by(await world.ask(plugin="none"))) == {"name", "algorithm", "version"}
        assert world.plugins[0].asks == []

    run(test)


@pytest.mark.parametrize(
    ("reply", "reason", "fate"),
    [
        (no("its model is in shadow", shadow=True), "its model is in shadow", None),
        (no("it raised", fault=True), "it raised", None),
        (Said("p"), "it said nothing", None),
        (Said("p", envelope=b"{}", shadow=True), "its model is in shadow", None),
        (ValueError("x"), "asking it failed with ValueError; the operator's log has the traceback", None),
        (NONSENSE, "result.nodes[0].items[0].id: 'nobody' is no id of data.items", True),
        (WORSE, "worse than the built-in's answer: score 0.666667 against 1", False),
        ({"success": False, "error": "no idea"}, "no idea", False),
    ],
)
def test_whatever_a_plugin_does_the_built_in_answers_and_says_why(reply: Reply, reason: str, fate: bool | None) -> None:
    async def test() -> None:
        world = World([Scripted("p", reply)])
        assert is_own(by(await world.ask()), f"p: {reason}")
        assert world.plugins[0].fates == ([] if fate is None else [(False, reason, fate)])
        assert world.plugins[0].passed_over_times == 1

    run(test)


def test_the_next_plugin_is_asked_after_a_no_and_after_nonsense() -> None:
    async def test() -> None:
        world = World([Scripted("a", no("busy")), Scripted("b", NONSENSE), Scripted("c", BEST)])
        solved_by = by(await world.ask())
        assert solved_by["plugin"] == "c"
        assert solved_by["fallbackReason"].startswith("a: busy; b: result.nodes[0]")
        # What the built-in said when b was judged is held against c.
        assert world.pool.kinds == ["with", "beside"]
        assert [plugin.passed_over_times for plugin in world.plugins] == [1, 1, 0]

    run(test)


def test_an_answer_worse_than_the_built_ins_ends_the_search_for_another() -> None:
    async def test() -> None:
        world = World([Scripted("a", WORSE), Scripted("b", BEST)])
        assert is_own(by(await world.ask()), "a: worse than the built-in's answer: score 0.666667 against 1")
        assert world.plugins[1].asks == []
        assert world.plugins[1].aside == 1, "its models are scored all the same"
        assert [plugin.passed_over_times for plugin in world.plugins] == [1, 0]

    run(test)


def test_many_reasons_are_cut() -> None:
    async def test() -> None:
        world = World([Scripted(f"plugin-{number}", no("x" * 100)) for number in range(20)])
        reason = answered(await world.ask()).fallback_reason
        assert reason is not None
        assert len(reason) == 1024
        assert reason.endswith("...")

    run(test)


def test_advice_names_the_plugin_and_the_algorithm_that_followed_it() -> None:
    async def test() -> None:
        world = World([Scripted("p", {"result": {"order": ["b", "a"]}, "confidence": 0.123456})])
        solved_by = by(await world.ask())
        assert solved_by.pop("claimedConfidence") == 0.1235
        assert (solved_by["role"], solved_by["plugin"], solved_by["algorithm"], solved_by["version"]) == (
            "advice",
            "p",
            "first-fit-advised",
            "1.2.3",
        )

    run(test)


# -- Slow plugins -------------------------------------------------------------------------------------------------


def test_the_built_in_is_solved_beside_a_slow_plugin_which_is_served_all_the_same() -> None:
    async def test() -> None:
        world = World([Scripted("slow", None, BEST)])
        asking = asyncio.create_task(world.ask())
        await until(lambda: world.pool.kinds == ["alone"])
        world.plugins[0].speaks.set()
        assert by(await asking)["plugin"] == "slow"
        assert world.pool.kinds == ["alone", "beside"]
        assert world.incumbents == [INCUMBENT]

    run(test)


def test_while_a_plugin_is_waited_for_others_have_the_turn() -> None:
    async def test() -> None:
        world = World([Scripted("slow", None, BEST)], turns=1)
        waiting = asyncio.create_task(world.ask())
        await until(lambda: world.pool.kinds == ["alone"])
        assert set(by(await world.ask(plugin="none"))) == {"name", "algorithm", "version"}
        world.plugins[0].speaks.set()
        assert by(await waiting)["plugin"] == "slow"

    run(test)


def test_while_a_prediction_is_waited_for_others_have_the_turn() -> None:
    async def test() -> None:
        world = World([Scripted("slow", None, PREDICTION)], turns=1, late=1)
        waiting = [asyncio.create_task(world.ask({"size": 1})) for _ in range(3)]
        await until(lambda: len(world.plugins[0].asks) == 1)
        assert set(by(await world.ask(plugin="none"))) == {"name", "algorithm", "version"}
        world.plugins[0].speaks.set()
        assert [by(outcome)["role"] for outcome in await asyncio.gather(*waiting)] == ["prediction"] * 3

    run(test)


def test_no_more_than_a_few_wait_for_one_plugin_and_the_others_do_without() -> None:
    async def test() -> None:
        world = World([Scripted("hung", None)], late=2, turns=1)
        waiting = [asyncio.create_task(world.ask()) for _ in range(2)]
        await until(lambda: len(world.plugins[0].asks) == 2 and world.pool.kinds == ["alone"] * 2)
        for _ in range(20):
            assert is_own(by(await world.ask()), "hung: 2 requests wait for it already")
        assert (world.plugins[0].left_out_times, world.plugins[0].passed_over_times) == (20, 20)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        world.plugins[0].replies[:] = [BEST]
        assert by(await world.ask())["plugin"] == "hung"

    run(test)


def test_a_request_that_is_given_up_leaves_nothing_behind() -> None:
    async def test() -> None:
        world = World([Scripted("hung", None)], turns=1)
        before = asyncio.all_tasks()
        world.pool.held.clear()
        task = asyncio.create_task(world.ask())
        await until(lambda: world.pool.kinds == ["alone"])
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (world.plugins[0].cancelled, world.pool.cancelled) == (1, 1)
        assert asyncio.all_tasks() == before
        world.pool.held.set()
        assert set(by(await world.ask(plugin="none"))) == {"name", "algorithm", "version"}  # its turn is free again

    run(test)


def test_the_requests_own_time_ends_the_wait() -> None:
    async def test() -> None:
        world = World([Scripted("hung", None), Scripted("next", BEST)])
        outcome = await world.ask(timeoutSeconds=1)
        assert is_own(by(outcome), "hung: no answer within spec.timeoutSeconds (1 s)")
        assert world.plugins[1].asks == []
        assert world.plugins[0].cancelled == 1

    run(test)


def test_a_request_at_fault_is_not_kept_waiting() -> None:
    async def test() -> None:
        world = World([Scripted("hung", None)])
        outcome = await world.ask({"items": []})
        assert isinstance(outcome, Failed)
        assert (outcome.reason, outcome.waiting) == (Reason.INVALID_DATA, False)
        assert world.plugins[0].cancelled == 1
        assert world.plugins[0].passed_over_times == 0, "nobody has answered it"

    run(test)


# -- Workers that fail --------------------------------------------------------------------------------------------


def raising(error: Exception) -> Callable[[], Outcome]:
    def fail() -> Outcome:
        raise error

    return fail


@pytest.mark.parametrize(
    ("instead", "why"),
    [
        (raising(WorkerDiedError("out of memory")), "WorkerDied"),
        (raising(WorkerTimeoutError(1.0)), "TimedOut"),
        (lambda: Failed(Reason.SOLVER_CRASHED, "the solver failed"), "SolverCrashed"),
        (lambda: Failed(Reason.RESULT_TOO_LARGE, "too large"), "ResultTooLarge"),
    ],
)
def test_a_reply_that_costs_the_worker_its_life_costs_nobody_the_answer(
    instead: Callable[[], Outcome], why: str
) -> None:
    async def test() -> None:
        world = World([Scripted("bad", BEST), Scripted("next", BEST)])
        world.pool.on_judging = instead
        outcome = answered(await world.ask())
        assert outcome.fallback_reason is not None
        assert outcome.fallback_reason.startswith(f"bad: holding what it said against the request ended with {why}: ")
        ((served, _, unusable),) = world.plugins[0].fates
        assert (served, unusable) == (False, True)
        assert world.plugins[1].asks == []  # it may be the request
        assert world.pool.kinds == ["with", "alone"]

    run(test)


def test_a_built_in_that_fails_is_told_as_without_plugins() -> None:
    async def test() -> None:
        world = World([Scripted("slow", None, BEST)])
        world.pool.on_built_in = raising(WorkerTimeoutError(1.0))
        outcome = await world.ask()
        assert isinstance(outcome, Failed)
        assert outcome.reason == Reason.TIMED_OUT

    run(test)


def test_an_answer_that_was_cut_off_is_held_against_the_plugins_too() -> None:
    async def test() -> None:
        world = World([Scripted("slow", None, WORSE)])
        own = evaluate(SolveTask("t", "resource", json.dumps(PACKING).encode()))
        assert isinstance(own, Solved)
        error = WorkerTimeoutError(1.0)
        error.incumbent = own
        world.pool.on_built_in = raising(error)
        asking = asyncio.create_task(world.ask())
        await until(lambda: world.pool.kinds == ["alone"])
        world.plugins[0].speaks.set()
        outcome = answered(await asking)
        assert outcome.cut_off == "timeoutSeconds (30) passed"
        assert is_own(by(outcome), "slow: worse than the built-in's answer: score 0.666667 against 1")

    run(test)


# -- Where only a plugin can answer -------------------------------------------------------------------------------


def test_a_prediction_is_the_result_where_the_data_is_not_the_built_ins() -> None:
    async def test() -> None:
        world = World([Scripted("a", no("not trained")), Scripted("b", PREDICTION), Scripted("c", PREDICTION)])
        outcome = await world.ask({"workload_size": 200})
        solved_by = by(outcome)
        assert (solved_by["plugin"], solved_by["role"], solved_by["fallbackReason"]) == (
            "b",
            "prediction",
            "a: not trained",
        )
        assert "algorithm" not in solved_by
        assert json.loads(answered(outcome).solved.result) == PREDICTION["result"]
        assert [plugin.keys[0][2] for plugin in world.plugins[:2]] == [True, True]
        assert world.plugins[2].aside == 1
        assert [plugin.passed_over_times for plugin in world.plugins] == [1, 0, 0]

    run(test)


def test_without_any_plugin_such_data_is_at_fault_as_ever() -> None:
    async def test() -> None:
        outcome = await World([]).ask({"workload_size": 200})
        assert isinstance(outcome, Failed)
        assert outcome.reason == Reason.INVALID_DATA

    run(test)


def test_where_a_plugin_may_be_named_later_such_data_is_waited_with() -> None:
    async def test() -> None:
        reason, message = failed(await World([], can_wait=True).ask({"workload_size": 200}))
        assert reason == "NoPlugin"
        assert message.startswith("spec.data.")  # it may be a typing error
        assert message.endswith("; or only a plugin can answer it: no enabled plugin can handle type resource")
        # What has any of the built-in's fields is the built-in's, and at fault.
        for data in ({"items": [], "workload_size": 200}, {"nodeCapacity": {"cpu": 2}}):
            outcome = await World([], can_wait=True).ask(data)
            assert isinstance(outcome, Failed)
            assert (outcome.reason, outcome.waiting) == (Reason.INVALID_DATA, False)
        # What cannot be read at all no plugin can read either.
        outcome = await World([], can_wait=True).ask(["workload_size"])
        assert isinstance(outcome, Failed)
        assert (outcome.reason, outcome.waiting) == (Reason.INVALID_DATA, False)
        outcome = await World([], can_wait=True).ask({"workload_size": 200}, plugin="none")
        assert isinstance(outcome, Failed)
        assert (outcome.reason, outcome.waiting) == (Reason.INVALID_DATA, False)

    run(test)


def test_while_a_plugin_starts_such_data_is_waited_with() -> None:
    async def test() -> None:
        others = {
            "broken": (Reason.LOAD_FAILED, "it cannot be imported"),
            "soon": (Reason.STARTING, "it is being loaded"),
        }
        world = World([], others=others)
        reason, message = failed(await world.ask({"workload_size": 200}))
        assert reason == "NoPlugin"
        assert message.startswith("spec.data.")  # it may be that, too
        assert message.endswith("; or only a plugin can answer it: soon: it is being loaded")
        assert set(by(await world.ask())) == {"name", "algorithm", "version"}
        others["soon"] = (Reason.DISABLED, "it is not enabled")
        reason, message = failed(await world.ask({"workload_size": 200}))
        assert reason == "NoPlugin"
        assert message.endswith("; or only a plugin can answer it: soon: it is not enabled")
        del others["soon"]
        outcome = await world.ask({"workload_size": 200})
        assert isinstance(outcome, Failed)
        assert outcome.reason == Reason.INVALID_DATA

    run(test)


@pytest.mark.parametrize(
    ("reply", "reason", "message"),
    [
        (no("it is being started", waiting=Reason.STARTING), Reason.NO_PLUGIN, "p: it is being started"),
        (no("3 of 10 points", waiting=Reason.NOT_ENOUGH_DATA), Reason.NOT_ENOUGH_DATA, "p: 3 of 10 points"),
        ([], Reason.NO_PLUGIN, "p: what the plugin returned: must be a dict, not []"),
    ],
)
def test_where_no_plugin_answers_such_a_request_waits(reply: Any, reason: Reason, message: str) -> None:
    async def test() -> None:
        assert failed(await World([Scripted("p", reply)]).ask({"size": 1})) == (reason, message)

    run(test)


def test_ml_driven_is_predicted_from_the_history_where_no_plugin_can() -> None:
    async def test() -> None:
        for plugins, reason in (([], None), ([Scripted("p", no("too tired"))], "p: too tired")):
            world = World(plugins, fallback=Scripted("builtin", PREDICTION))
            assert by(await world.ask({"x": 1}, type="ml-driven")) == {
                "name": "simple-predictor",
                "algorithm": "simple-predictor",
                "version": "1.2.3",
                "modelId": "m",
                "confidence": 0.75,
                **({"fallbackReason": reason} if reason else {}),
            }

    run(test)


def test_ml_driven_waits_for_history_or_a_plugin() -> None:
    async def test() -> None:
        short = Scripted("builtin", no("3 of 10 points", waiting=Reason.NOT_ENOUGH_DATA))
        world = World([Scripted("p", no("too tired"))], fallback=short)
        assert failed(await world.ask({"x": 1}, type="ml-driven")) == (
            "NotEnoughData",
            "p: too tired; simple-predictor: 3 of 10 points",
        )
        starting = Scripted("builtin", no("it is being started", waiting=Reason.STARTING))
        outcome = await World([], fallback=starting).ask({"x": 1}, type="ml-driven")
        message = "no enabled plugin can handle type ml-driven; simple-predictor: it is being started"
        assert failed(outcome) == ("NoPlugin", message)
        outcome = await World([]).ask({"x": 1}, type="ml-driven")
        assert failed(outcome) == ("NoPlugin", "no enabled plugin can handle type ml-driven")

    run(test)


def test_averages_do_not_answer_for_a_plugin_that_is_about_to() -> None:
    async def test() -> None:
        others = {"soon": (Reason.STARTING, "it is being loaded")}
        world = World([], fallback=Scripted("builtin", PREDICTION, PREDICTION), others=others)
        assert failed(await world.ask({"x": 1}, type="ml-driven")) == ("NoPlugin", "soon: it is being loaded")
        others["soon"] = (Reason.LOAD_FAILED, "it cannot be imported")
        assert by(await world.ask({"x": 1}, type="ml-driven"))["name"] == "simple-predictor"

    run(test)


def test_ml_driven_without_plugins_by_its_users_wish_waits() -> None:
    async def test() -> None:
        world = World([Scripted("p", PREDICTION)], fallback=Scripted("builtin", PREDICTION))
        assert failed(await world.ask({"x": 1}, type="ml-driven", plugin="none"))[0] == "NoPlugin"

    run(test)


@pytest.mark.parametrize(("request_type", "data"), [("ml-driven", {"x": 1}), ("resource", PACKING)])
def test_a_plugin_that_is_named_and_not_there_is_waited_for(request_type: str, data: Any) -> None:
    async def test() -> None:
        world = World([Scripted("p", BEST)], fallback=Scripted("builtin", PREDICTION))
        reason, message = failed(await world.ask(data, type=request_type, plugin="clever"))
        assert reason == "NoPlugin"
        assert "has the name 'clever'" in message

    run(test)


def test_where_the_plugin_that_is_named_says_no_the_built_in_answers_if_there_is_one() -> None:
    async def test() -> None:
        world = World([Scripted("a", BEST), Scripted("p", no("no idea"))], fallback=Scripted("builtin", PREDICTION))
        assert is_own(by(await world.ask(plugin="p")), "p: no idea")
        assert world.plugins[0].asks == []
        assert failed(await world.ask({"x": 1}, type="ml-driven", plugin="p")) == ("NoPlugin", "p: no idea")

    run(test)


def test_a_prediction_that_takes_all_the_time_is_waited_for_again() -> None:
    async def test() -> None:
        world = World([Scripted("hung", None)])
        assert failed(await world.ask({"x": 1}, timeoutSeconds=1)) == (
            "NoPlugin",
            "hung: no answer within spec.timeoutSeconds (1 s)",
        )

    run(test)


# -- Type performance ---------------------------------------------------------------------------------------------

SAMPLES = [0.1 + 0.01 * (number % 7) for number in range(30)] + [0.3]
SIZING = {"samples": [{"name": "web", "cpu": SAMPLES, "memory": [2**28] * len(SAMPLES)}]}


def sized(cpu: float) -> dict[str, Any]:
    requests = {"cpu": cpu, "memory": "256Mi"}
    return {"result": {"containers": [{"name": "web", "requests": requests, "limits": {"memory": "1Gi"}}]}}


def test_a_sizing_is_tried_on_the_older_samples_first_and_that_is_not_scored() -> None:
    async def test() -> None:
        world = World([Scripted("p", sized(0.16), sized(0.2))])
        outcome = await world.ask(SIZING, type="performance")
        assert by(outcome)["role"] == "answer"
        older, whole = world.plugins[0].asks
        assert len(json.loads(older.data)["samples"][0]["cpu"]) == int(0.7 * len(SAMPLES))
        assert json.loads(whole.data) == SIZING
        assert [point for point, _, _ in world.plugins[0].keys] == [None, key_of("u", 3, 7)]
        assert world.pool.tasks[0].reply is not None
        assert json.loads(world.pool.tasks[0].reply.backtest) == sized(0.16)

    run(test)


# -- Turns --------------------------------------------------------------------------------------------------------


def test_a_turn_that_was_lent_and_not_got_back_is_given_back_once() -> None:
    async def test() -> None:
        turns = Turns(1)

        @contextlib.asynccontextmanager
        async def failing() -> AsyncIterator[None]:
            async with turns.take() as turn, turn.lent():
                yield

        with pytest.raises(ZeroDivisionError):
            async with failing():
                raise ZeroDivisionError
        async with turns.take():
            second = asyncio.create_task(turns.take().__aenter__())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not second.done()
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)

    run(test)


def test_who_has_lent_a_turn_comes_before_those_who_had_none() -> None:
    async def test() -> None:
        turns = Turns(1)
        order: list[str] = []
        back = asyncio.Event()

        async def lend() -> None:
            async with turns.take() as turn:
                async with turn.lent():
                    await back.wait()
                order.append("lent")

        async def come(name: str) -> None:
            async with turns.take():
                order.append(name)
                back.set()
                await asyncio.sleep(0)  # who has lent its turn is waiting for it when this one ends
                await asyncio.sleep(0)

        await asyncio.gather(lend(), *(come(f"new {number}") for number in range(3)))
        assert order == ["new 0", "lent", "new 1", "new 2"]

    run(test)


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(["keeps", "lends", "needs"]), st.integers(0, 6), st.booleans()), max_size=12),
)
def test_however_requests_come_lend_and_are_cancelled_no_turn_or_place_is_lost_or_held_twice(
    count: int, room: int, requests: list[tuple[str, int, bool]]
) -> None:
    async def test() -> None:
        turns, places = Turns(count), asyncio.Semaphore(room)
        holding = most = placed = most_placed = 0

        async def hold() -> None:
            nonlocal holding, most
            holding += 1
            most = max(most, holding)
            try:
                await asyncio.sleep(0)
            finally:
                holding -= 1

        async def one(does: str) -> None:
            nonlocal placed, most_placed
            async with turns.take() as turn:
                await hold()
                if does == "lends":
                    async with turn.lent():
                        await asyncio.sleep(0)
                    await hold()
                elif does == "needs":
                    async with turn.lent(places):
                        placed += 1
                        most_placed = max(most_placed, placed)
                        try:
                            await asyncio.sleep(0)
                        finally:
                            placed -= 1
                    await hold()

        tasks = []
        for does, steps, cancelled in requests:
            tasks.append(asyncio.create_task(one(does)))
            for _ in range(steps):
                await asyncio.sleep(0)
            if cancelled:
                tasks[len(tasks) // 2].cancel()
        ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends)
        assert most <= count
        assert most_placed <= room
        for _ in range(room):
            await asyncio.wait_for(places.acquire(), 1)
        assert places.locked()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(count):
                await asyncio.wait_for(stack.enter_async_context(turns.take()), 1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stack.enter_async_context(turns.take()), 0.0)

    run(test)


def test_who_waits_for_a_place_or_a_turn_is_not_at_work() -> None:
    async def test() -> None:
        turns, places = Turns(1), asyncio.Semaphore(1)
        has_a_place, goes_on, has_turn = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def one(turn: Turn) -> None:
            async with turn.lent(places):
                has_a_place.set()
                await goes_on.wait()
            has_turn.set()

        await places.acquire()
        async with turns.take() as turn:
            assert turn.at_work_seconds is not None
            task = asyncio.create_task(one(turn))
            async with turns.take():
                await asyncio.sleep(0)
                assert turn.at_work_seconds is None
                places.release()
                await has_a_place.wait()
                assert turn.at_work_seconds is not None
                goes_on.set()
                await until(lambda: not places.locked())
                assert turn.at_work_seconds is None
                assert not has_turn.is_set()
            await task
            assert turn.at_work_seconds is not None

    run(test)


def test_who_waits_for_a_turn_again_does_not_keep_others_from_the_plugin() -> None:
    async def test() -> None:
        world = World([Scripted("slow", None, BEST)], late=1, turns=1)
        waiting = asyncio.create_task(world.ask())
        await until(lambda: world.pool.kinds == ["alone"])
        async with world.all_turns.take() as turn:  # that the request has lent
            world.plugins[0].speaks.set()
            for _ in range(20):  # passes of the event loop: the answer is there, and the turn is not
                await asyncio.sleep(0)
            assert not waiting.done()
            assert by(await world.asking.answer(world.posed(turn, PACKING)))["plugin"] == "slow"
        assert by(await waiting)["plugin"] == "slow"

    run(test)
