"""Questions over HTTP: answered as a resource is, recorded once, stopped with the best so far, cancelled at once."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from hosted_world import Stage, on_a_loop, stage
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_instances import settled

from engine_ops.api import status as statuses
from engine_ops.api.optimizationrequest import OptimizationRequestSpec
from engine_ops.api.status import Attempt
from engine_ops.controllers import direct_reply
from engine_ops.controllers.direct import STOPPED, DirectRequests
from engine_ops.controllers.direct_reply import Once
from engine_ops.controllers.solving import Answered, PluginShare, run_task, solution_of, task_for
from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.plugins.instance import Unanswered
from engine_ops.plugins.judging import respond
from engine_ops.server.bridge import EngineGone
from engine_ops.server.questions import Improvement, Question, Reply
from engine_ops.server.stop_signal import StopSignal
from engine_ops.server.workload_points import PointFilter
from engine_ops.workers.errors import PoolClosedError, WorkerDiedError, WorkerTimeoutError
from engine_ops.workers.frames import FrameTooLargeError
from engine_ops.workers.messages import Failed, Outcome, Solved, SolveTask
from engine_ops.workers.pool import WorkerPool
from engine_ops.workers.solve import evaluate

PACKING: dict[str, Any] = {
    "items": [{"id": "a", "cpu": 1, "memory": "1Gi", "count": 3}],
    "nodeCapacity": {"cpu": 2, "memory": "8Gi"},
}
INCUMBENT = Solved(
    b'{"nodeCount":3}', 15, 5, "Solved", "so far", "greedy", "1", score=0.5, objective=3.0, lower_bound=2.0, gap=0.5
)


class Pool:
    """Solves in this process; a test may hold it up, and raise in place of an answer."""

    def __init__(self) -> None:
        self.tasks: list[SolveTask] = []
        self.free = asyncio.Event()
        self.free.set()
        self.at_work = asyncio.Event()
        self.incumbent: Solved | None = None
        self.error: Exception | None = None
        self.cancelled = 0

    async def run(
        self, task: SolveTask, *, timeout_seconds: float, on_incumbent: Callable[[Solved], None] | None = None
    ) -> Outcome:
        self.tasks.append(task)
        self.at_work.set()
        if self.incumbent is not None and on_incumbent is not None:
            on_incumbent(self.incumbent)
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return evaluate(task, respond=respond)


class Door:
    """An engine, what is around it, and questions to it."""

    def __init__(self, on: Stage | None = None, **options: Any) -> None:
        self.pool = Pool()
        self.store = MemoryStore()
        self.log = HistoryLog(self.store)
        manager = None if on is None else on.manager
        self.engine = DirectRequests(pool=self.pool, workers=1, manager=manager, log=self.log, **options)
        self.improvements: list[Improvement] = []
        self.stop = StopSignal()

    async def ask(self, data: Any = PACKING, **fields: Any) -> Reply:
        question = {"id": "q", "namespace": "shop", "username": "ada", "type": "resource", "search_seconds": 0.0}
        encoded = data if isinstance(data, bytes) else json.dumps(data).encode()
        asked: Any = question | {"data": encoded} | fields
        return await self.engine.answer(Question(**asked), on_improvement=self.improvements.append, stop=self.stop)

    @property
    def points(self) -> list[WorkloadDataPoint]:
        return list(self.log.collector.select())

    async def fates(self) -> dict[str, int]:
        health = await self.engine.health()
        assert health["questionsUnderWay"] == 0
        return {name: count for name, count in health["questions"].items() if count}


@asynccontextmanager
async def door(on: Stage | None = None, **options: Any) -> AsyncIterator[Door]:
    made = Door(on, **options)
    await made.log.load()
    async with made.engine:
        yield made


async def status_of_resource(data: Any, **fields: Any) -> dict[str, Any]:
    """What the status of a resource says that asks the same, where there are no plugins."""
    spec = OptimizationRequestSpec.model_validate({"type": "resource", "searchSeconds": 0, "data": data, **fields})
    outcome = await run_task(Pool(), task_for(spec, json.dumps(data).encode(), task_id="t"), spec)
    assert isinstance(outcome, Answered)
    attempt = Attempt({}, 1, 1, datetime.datetime.now(datetime.UTC))
    return statuses.answered(attempt, solution_of(outcome.solved, cut_off=outcome.cut_off), attempt.started)


@pytest.mark.parametrize("cpu", [1, 64], ids=["complete", "unplaceable"])
@on_a_loop
async def test_a_reply_says_what_the_status_of_a_resource_would(cpu: int) -> None:
    data = {**PACKING, "items": [{"id": "a", "cpu": cpu, "memory": "1Gi"}, {"id": "b", "cpu": 1, "memory": "1Gi"}]}
    status = await status_of_resource(data)
    ready = statuses.find(status, "Ready")
    assert ready is not None
    async with door() as at:
        reply = await at.ask(data)
    assert (reply.success, reply.reason, reply.message) == (cpu == 1, ready["reason"], ready["message"])
    assert (reply.score, reply.cut_off, reply.cacheable) == (status["metrics"]["score"], None, True)
    assert reply.result == bytes(status["result"])
    assert reply.solved_by is not None
    told = reply.solved_by.model_dump(by_alias=True, exclude_none=True)
    assert told == {name: value for name, value in status["solvedBy"].items() if name != "name"}


@pytest.mark.parametrize("role", ["", "answer", "advice", "prediction"])
def test_a_reply_says_of_a_plugin_all_that_the_status_would(role: Any) -> None:
    once = Once.of(Question("q", "shop", "ada", "resource", b"{}"))
    solved = msgspec.structs.replace(INCUMBENT, plugin_role=role)
    share = PluginShare("oracle" if role else None, "2", model_id="m", confidence=0.875, claimed_confidence=0.99)
    solution = solution_of(solved, share=share, fallback_reason="slow: took too long")
    reply = once.reply(
        Answered(solved, share=share, fallback_reason="slow: took too long"), duration_ms=1, reproducible=True
    )
    assert reply.solved_by is not None
    told = reply.solved_by.model_dump(by_alias=True, exclude_none=True)
    assert told == {name: value for name, value in solution.solved_by.items() if name != "name"}
    assert (told["confidence"], told["claimedConfidence"]) == (0.875, 0.99)


@on_a_loop
async def test_an_answer_is_one_point_and_in_the_store_with_the_next_flush() -> None:
    async with door() as at:
        reply = await at.ask(id="r-1")
        await at.log.flush()
        again = HistoryLog(at.store)
        await again.load()
        (point,) = again.collector.select()
        assert point == at.points[0]
    assert (point.request_type, point.success, point.duration) == ("resource", True, reply.duration_ms)
    identity = {name: point.metadata.pop(name) for name in ("uid", "generation", "run")}
    assert (identity["generation"], identity["run"]) == (1, 1)
    assert point.metadata == {
        "namespace": "shop",
        "requestId": "r-1",
        "solve": {
            "durationMs": reply.duration_ms,
            "reason": "Solved",
            "score": 1.0,
            "algorithm": "first-fit-decreasing",
        },
        "request": {
            "items.count": 1.0,
            "items.cpu": 3.0,
            "items.memory": 3.0 * 2**30,
            "nodeCapacity.cpu": 2.0,
            "nodeCapacity.memory": 8.0 * 2**30,
        },
        "outcome": {
            "of": "request",
            "state": "succeeded",
            "reason": "Solved",
            "closedAt": point.timestamp + reply.duration_ms,
        },
    }


@on_a_loop
async def test_the_same_id_twice_is_two_points() -> None:
    async with door() as at:
        await at.ask()
        await at.ask()
        assert [point.metadata["requestId"] for point in at.points] == ["q", "q"]


@on_a_loop
async def test_faults_name_the_fields_as_the_caller_wrote_them() -> None:
    async with door() as at:
        reply = await at.ask({**PACKING, "items": [{"id": "a", "cpu": "x", "memory": 1}]})
        assert (reply.success, reply.reason, reply.waiting, reply.cacheable) == (False, "InvalidData", False, False)
        assert [path for path, _ in reply.faults] == ["data.items[0].cpu"]
        assert reply.message.startswith("data.items[0].cpu: ")
        reply = await at.ask(constraints=b'{"nothing": 1}')
        assert [path for path, _ in reply.faults] == ["constraints.nothing"]
        assert [point.metadata["outcome"]["state"] for point in at.points] == ["failed", "failed"]
        assert await at.fates() == {"failed": 2}


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["items", "nodeCapacity", "cpu", "id", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(data=st.binary(max_size=40) | _JSON.map(lambda value: json.dumps({"items": value}).encode()))
@settings(max_examples=60)
def test_whatever_the_data_is_the_faults_begin_there(data: bytes) -> None:
    async def test() -> None:
        async with door() as at:
            reply = await at.ask(data)
            assert not reply.success
            assert reply.faults
            assert all(path.startswith("data") for path, _ in reply.faults)

    asyncio.run(test())


@on_a_loop
async def test_what_waits_is_no_point() -> None:
    async with door() as at:
        reply = await at.ask({"x": 1}, type="ml-driven")
        assert (reply.reason, reply.waiting, reply.faults) == ("NoPlugin", True, ())
        at.pool.error = WorkerDiedError("the worker was killed by SIGSEGV")
        reply = await at.ask()
        assert (reply.reason, reply.waiting) == ("WorkerDied", True)
        assert at.points == []
        assert await at.fates() == {"waiting": 2}


@on_a_loop
async def test_time_that_is_up_is_said_and_recorded() -> None:
    async with door() as at:
        at.pool.error = WorkerTimeoutError(2)
        reply = await at.ask(timeout_seconds=2.0)
        assert (reply.success, reply.reason, reply.waiting) == (False, "TimedOut", False)
        assert "(2 s)" in reply.message
        at.pool.error.incumbent = INCUMBENT
        reply = await at.ask(timeout_seconds=2.0)
        assert (reply.success, reply.reason, reply.result) == (True, "BestSoFar", INCUMBENT.result)
        assert (reply.cut_off, reply.cacheable) == ("timeoutSeconds (2) passed", False)
        assert [point.success for point in at.points] == [False, True]


@on_a_loop
async def test_a_stopped_question_keeps_the_best_so_far() -> None:
    async with door() as at:
        at.pool.free.clear()
        at.pool.incumbent = INCUMBENT
        asking = asyncio.create_task(at.ask(search_seconds=60.0))
        await at.pool.at_work.wait()
        at.stop.set()
        reply = await asking
        assert (reply.success, reply.reason, reply.result) == (True, "BestSoFar", INCUMBENT.result)
        assert (reply.cut_off, reply.cacheable, reply.score) == (STOPPED, False, 0.5)
        assert at.improvements == [Improvement(3.0, 2.0, 0.5)]
        assert at.pool.cancelled == 1
        (point,) = at.points
        assert point.metadata["solve"]["reason"] == "BestSoFar"


@on_a_loop
async def test_a_question_that_is_stopped_before_any_answer_may_be_asked_again() -> None:
    async with door() as at:
        at.pool.free.clear()
        asking = asyncio.create_task(at.ask())
        await at.pool.at_work.wait()
        at.stop.set()
        reply = await asking
        assert (reply.success, reply.result, reply.waiting, at.pool.cancelled) == (False, None, True, 1)
        assert at.points == []


@on_a_loop
async def test_a_question_that_is_stopped_while_a_plugin_thinks_has_the_whole_built_in_answer() -> None:
    async with stage() as on, door(on) as at:
        await on.apply("slow")
        on.world.hold_asks = asyncio.Event()
        asking = asyncio.create_task(at.ask())
        await at.pool.at_work.wait()
        await settled()
        assert not asking.done()
        at.stop.set()
        reply = await asking
        assert (reply.success, reply.reason, reply.cut_off) == (True, "BestSoFar", STOPPED)
        assert json.loads(reply.result or b"")["nodeCount"] == 2


@on_a_loop
async def test_a_cancelled_question_ends_at_once_and_leaves_nothing_but_a_count() -> None:
    async with door() as at:
        at.pool.free.clear()
        at.pool.incumbent = INCUMBENT
        asking = asyncio.create_task(at.ask())
        await at.pool.at_work.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert at.pool.cancelled == 1
        assert at.points == []
        assert await at.fates() == {"givenUp": 1}
        at.pool.free.set()
        assert (await at.ask()).success


@on_a_loop
async def test_stopping_and_cancelling_free_a_real_worker() -> None:
    hard = {
        "items": [{"id": f"i{n}", "cpu": 0.31 + 0.017 * (n * 37 % 41), "memory": 1 + n * 53 % 97} for n in range(120)],
        "nodeCapacity": {"cpu": 2.0, "memory": 200},
    }
    asked = {"id": "q", "namespace": "shop", "username": "ada", "type": "resource", "search_seconds": 300.0}
    question = Question(**{**asked, "data": json.dumps(hard).encode(), "timeout_seconds": 300.0})  # type: ignore[arg-type]
    async with WorkerPool(1) as pool, DirectRequests(pool=pool, workers=1) as engine:
        for way in ("stop", "cancel"):
            stop, improved = StopSignal(), asyncio.Event()
            asking = asyncio.create_task(
                engine.answer(question, on_improvement=lambda _, told=improved: told.set(), stop=stop)
            )
            async with asyncio.timeout(60):
                await improved.wait()
                (worker,) = pool.processes.worker_pids
                if way == "stop":
                    stop.set()
                    reply = await asking
                    assert (reply.reason, reply.cut_off) == ("BestSoFar", STOPPED)
                    assert reply.result is not None
                else:
                    asking.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await asking
                while os.path.exists(f"/proc/{worker}"):  # noqa: ASYNC110, ASYNC240, PTH110 -- nothing tells of it
                    await asyncio.sleep(0.005)
            assert pool.processes.busy == 0


@on_a_loop
async def test_a_large_result_is_returned_whole_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {**PACKING, "items": [{"id": f"item-{n}", "cpu": 2, "memory": 1} for n in range(1_000)]}
    async with door() as at:
        reply = await at.ask(many)
        assert len(reply.result or b"") > 64 * 1024
        assert len(json.loads(reply.result or b"")["nodes"]) == 1_000
        monkeypatch.setattr(direct_reply, "MAX_RESULT_BYTES", 10_000)
        reply = await at.ask(many)
        assert (reply.success, reply.reason, reply.result) == (False, "ResultTooLarge", None)
        assert "limit is 10000: split the request" in reply.message
        assert at.points[-1].metadata["outcome"]["reason"] == "ResultTooLarge"


@on_a_loop
async def test_what_is_too_long_for_a_frame_is_a_fault_of_the_data() -> None:
    async with door() as at:
        at.pool.error = FrameTooLargeError(70, 60)
        reply = await at.ask()
        assert (reply.reason, [path for path, _ in reply.faults]) == ("InvalidData", ["data"])


@pytest.mark.parametrize(
    ("trouble", "cacheable"),
    [
        ({"says_no": "not of my sort"}, True),
        ({"unanswered": Unanswered("it took too long", "timeout")}, False),
        ({"unanswered": Unanswered("its host is gone", "unavailable")}, False),
        ({"unanswered": Unanswered("it crashed", "crashed")}, False),
        ({"prediction": {"nodes": 1.0}}, False),
    ],
    ids=["declined", "timeout", "unavailable", "crashed", "nonsense"],
)
@on_a_loop
async def test_an_answer_is_not_kept_where_a_plugin_failed_for_now(trouble: dict[str, Any], cacheable: bool) -> None:
    async with stage() as on, door(on) as at:
        on.world.has_model = False
        await on.apply("a")
        for name, value in trouble.items():
            setattr(on.world, name, value)
        reply = await at.ask()
        assert reply.success
        assert reply.solved_by is not None
        assert (reply.solved_by.fallback_reason or "").startswith("a: ")
        assert reply.cacheable is cacheable
        assert (await at.ask(plugin="none")).cacheable, "one question's trouble is not another's"


@on_a_loop
async def test_a_plugin_answers_and_is_counted_and_told_the_outcome() -> None:
    async with stage() as on, door(on) as at:
        on.world.has_model = False
        await on.apply("a")
        recorded: list[Any] = []
        at.log.on_recorded = recorded.append
        reply = await at.ask({"x": 1}, type="ml-driven", constraints=b'{"y":2}')
        assert (reply.success, reply.cacheable) == (True, True)
        assert reply.solved_by is not None
        assert (reply.solved_by.plugin, reply.solved_by.role, reply.solved_by.model_id) == ("a", "prediction", "m")
        (asked,) = on.world.alive[0].asks
        assert (asked.request_id, asked.data, asked.constraints) == ("shop/q", b'{"x": 1}', b'{"y":2}')
        assert msgspec.json.decode(asked.extra)["namespace"] == "shop"
        assert on.snapshot.counts.requests == 1
        assert recorded == at.points
        assert recorded[0].metadata["solve"]["plugin"] == "a"


@on_a_loop
async def test_a_pinned_plugin_that_is_not_there_is_waited_for() -> None:
    async with stage() as on, door(on) as at:
        reply = await at.ask(plugin="nobody")
        assert (reply.reason, reply.waiting, at.points) == ("NoPlugin", True, [])


@on_a_loop
async def test_solvers_that_are_closed_are_the_end_of_the_engine() -> None:
    async with door() as at:
        at.pool.error = PoolClosedError("closed")
        with pytest.raises(EngineGone):
            await at.ask()
        assert at.points == []


@on_a_loop
async def test_an_id_that_cannot_be_kept_costs_the_point_and_not_the_answer() -> None:
    async with door() as at:
        assert (await at.ask(id="\ud800\n")).success
        assert at.points == []
        assert at.pool.tasks[0].task_id == "shop/\\ud800\\n", "one line in the log"
        assert not at.log.stamps.unflushed


@on_a_loop
async def test_health_tells_of_its_parts_and_of_those_it_is_given() -> None:
    async with stage() as on, door(on, probes={"requestsUnderWay": lambda: 7}) as at:
        await on.apply("a", enabled=False)
        health = await at.engine.health()
        assert msgspec.json.decode(msgspec.json.encode(health)) == health
        assert (health["requestsUnderWay"], health["questionsUnderWay"]) == (7, 0)
        assert health["history"]["loaded"] is True
        assert health["plugins"]["a"]["state"] == "Disabled"


@on_a_loop
async def test_without_a_history_answers_are_given_all_the_same() -> None:
    engine = DirectRequests(pool=Pool(), workers=3)
    assert engine.workers == 3
    asked: Any = Question("q", "shop", "ada", "resource", json.dumps(PACKING).encode(), search_seconds=0)
    assert (await engine.answer(asked, on_improvement=lambda _: None, stop=StopSignal())).success
    assert await engine.history(PointFilter()) is None
    assert await engine.history_namespaces() == frozenset()
    assert (await engine.plugins(), await engine.plugin("a"), engine.lineup("resource", None)) == ([], None, "")
    assert "history" not in await engine.health()
    await engine.close()


@on_a_loop
async def test_an_unknown_type_is_the_callers_defect() -> None:
    async with door() as at:
        with pytest.raises(ValueError, match="genetic"):
            await at.ask(type="genetic")


@on_a_loop
async def test_sentences_name_the_fields_as_they_are_sent_over_http() -> None:
    async with stage() as on, door(on) as at:
        at.pool.error = WorkerTimeoutError(7)
        assert (await at.ask(timeout_seconds=7.0)).message == "no answer within timeoutSeconds (7 s); raise it"
        at.pool.error = None
        nobody = "no enabled plugin that can handle type resource has the name 'nobody'"
        assert (await at.ask(plugin="nobody")).message == f"plugin: {nobody}"
        on.world.has_model = False
        await on.apply("slow")
        on.world.hold_asks = asyncio.Event()
        late = "slow: no answer within timeoutSeconds (0.1 s)"
        reply = await at.ask(timeout_seconds=0.1)
        assert reply.success
        assert reply.solved_by is not None
        assert reply.solved_by.fallback_reason == late
        assert (await at.ask({"x": 1}, plugin="slow", type="ml-driven", timeout_seconds=0.1)).message == late
        on.world.hold_asks.set()
        await on.apply("slow", mode="shadow")
        shadow = await at.ask()
        assert shadow.solved_by is not None
        assert shadow.solved_by.fallback_reason == "slow: it is in shadow, by its mode"
        await on.apply("slow", enabled=False)
        off = await at.ask({"x": 1})
        assert off.message.endswith("or only a plugin can answer it: slow: it is not enabled")


@on_a_loop
async def test_sentences_name_the_fields_as_they_are_in_a_resource() -> None:
    spec = OptimizationRequestSpec.model_validate({"type": "resource", "timeoutSeconds": 7, "data": PACKING})
    pool = Pool()
    pool.error = WorkerTimeoutError(7)
    outcome = await run_task(pool, task_for(spec, json.dumps(PACKING).encode(), task_id="t"), spec)
    assert isinstance(outcome, Failed)
    assert outcome.message == "no answer within spec.timeoutSeconds (7 s); raise it"
