"""Races that cannot be forced on a real API server: the reconciler between fakes of what is at its edges."""

# ruff: noqa: ARG005, ASYNC110  # fakes have the signatures of what they stand for; a test may poll

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import datetime
import gc
import logging
import warnings
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from engine_ops.api import status as statuses
from engine_ops.api.reasons import Reason
from engine_ops.controllers import agenda, progress
from engine_ops.controllers import reconciler as reconciling
from engine_ops.controllers.cluster_input import ClusterInput
from engine_ops.controllers.history_keeper import HistoryKeeper
from engine_ops.controllers.measuring import UNMEASURED, Measured
from engine_ops.controllers.plugins import NO_PLUGINS
from engine_ops.controllers.reconciler import RequestReconciler
from engine_ops.controllers.recording import History, NoHistory
from engine_ops.controllers.view import RequestView
from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.kube import status_writer as status_writing
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.kube.requests import Requests
from engine_ops.kube.status_writer import StatusWriter, Written
from engine_ops.kube.target import Target
from engine_ops.plugins.messages import Ask
from engine_ops.plugins.said import Said
from engine_ops.workers.messages import Solved

SPEC = {"type": "resource", "data": {"items": []}, "searchSeconds": 0, "timeoutSeconds": 30}
DEADLINE_SECONDS = 60.0
TARGET = Target("n", "a", "u", 1)
SOLVED = Solved(
    result=b"{}", size_bytes=2, duration_ms=1, reason=Reason.SOLVED, message="m", algorithm="a", version="1"
)


def body(status: dict | None = None, generation: int = 1, spec: dict | None = None) -> dict[str, Any]:
    metadata = {"namespace": "n", "name": "a", "uid": "u", "generation": generation, "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {**SPEC, **(spec or {})}, "status": status or {}}


class Edges:
    """The API server and the pool. Each call is noted; what a test wants of one it puts in the place of the method."""

    def __init__(self) -> None:
        self.current: dict[str, Any] | None = body()
        self.statuses: list[dict[str, Any]] = []
        self.events: list[str] = []
        self.deletions = 0
        self.solves = 0
        self.digest = "first"
        self.looks = 0
        self.on_write: Callable[[dict[str, Any]], Written] = lambda status: Written.DONE
        self.history: History = NoHistory()

    async def get(self, target: Target) -> dict[str, Any] | None:
        return self.current

    async def delete(self, target: Target, resource_version: str) -> None:
        self.deletions += 1
        if self.deletions == 1:
            raise ApiError(409, {"reason": "Conflict"})
        self.current = None

    async def write(self, target: Target, status: dict[str, Any]) -> Written:
        decoded = msgspec.json.decode(msgspec.json.encode(status))
        self.statuses.append(decoded)
        written = self.on_write(decoded)
        await asyncio.sleep(0)
        return written

    async def read(self, namespace: str, spec: object, data: bytes | None) -> ClusterInput:
        self.looks += 1
        return ClusterInput(b"", b"", self.digest)

    async def run(self, task: object, *, timeout_seconds: float, on_incumbent: object) -> Solved:
        self.solves += 1
        return SOLVED

    def record(self, target: Target, type_: str, reason: str, message: str) -> None:
        self.events.append(reason)

    def reconciler(self, plugins: Any = NO_PLUGINS, *, measured: Measured = UNMEASURED) -> RequestReconciler:
        edges: Any = self
        return RequestReconciler(
            requests=edges,
            writer=edges,
            config_maps=edges,
            cluster_data=edges,
            events=edges,
            history=self.history,
            pool=edges,
            workers=1,
            plugins=plugins,
            measured=measured,
        )


def run_alone(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that makes its own fakes."""

    async def inner() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await main

    asyncio.run(inner())


def run(test: Callable[[Edges, RequestReconciler], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine with fresh fakes."""

    async def inner() -> None:
        edges = Edges()
        reconciler = edges.reconciler()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await test(edges, reconciler)
        await reconciler.close()

    asyncio.run(inner())


async def settle(until: Callable[[], bool]) -> None:
    """Let the loop run until something is so; `run` has the deadline."""
    while not until():
        await asyncio.sleep(0.001)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agenda, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(agenda, "LAST_RETRY_SECONDS", 0.002)
    monkeypatch.setattr(status_writing, "MAX_BACKOFF_SECONDS", 0.001)


def test_an_echo_that_overtakes_the_response_leaves_nothing_behind() -> None:
    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        def echo(status: dict[str, Any]) -> Written:
            reconciler.observe(RequestView.of(body(status)))
            return Written.DONE

        edges.on_write = echo
        reconciler.observe(RequestView.of(body()))
        await settle(lambda: reconciler.under_way == 0)
        assert len(edges.statuses) == 1

    run(test)


def test_an_echo_that_comes_later_leaves_nothing_behind_and_an_older_event_solves_nothing_again() -> None:
    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        def late(status: dict[str, Any]) -> Written:
            reconciler.observe(RequestView.of(body()))
            return Written.DONE

        edges.on_write = late
        reconciler.observe(RequestView.of(body()))
        await settle(lambda: bool(edges.statuses))
        for _ in range(20):
            reconciler.observe(RequestView.of(body()))
            await asyncio.sleep(0)
        assert len(edges.statuses) == 1
        reconciler.observe(RequestView.of(body(edges.statuses[0])))
        assert reconciler.under_way == 0

    run(test)


def test_a_standing_request_is_timed_although_its_echo_overtook_the_response() -> None:
    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        standing = {"intervalSeconds": 10}

        def echo(status: dict[str, Any]) -> Written:
            then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=20)
            edges.current = body({**status, "completionTime": statuses.timestamp(then)}, spec=standing)
            reconciler.observe(RequestView.of(edges.current))
            return Written.DONE

        edges.on_write = echo
        reconciler.observe(RequestView.of(body(spec=standing)))
        await settle(lambda: len(edges.statuses) >= 3)
        assert [status["run"] for status in edges.statuses[:3]] == [1, 2, 3]

    run(test)


def test_a_deletion_that_met_a_conflict_is_tried_again(quick: None) -> None:
    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=20)
        answered = {"observedGeneration": 1, "run": 1, "completionTime": statuses.timestamp(then)}
        edges.current = body(answered, spec={"ttlSecondsAfterFinished": 5})
        reconciler.observe(RequestView.of(edges.current))
        await settle(lambda: edges.current is None)
        assert edges.deletions == 2

    run(test)


def test_who_waits_for_more_than_a_thousand_retries_is_still_retried(quick: None) -> None:
    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        looks = 0

        async def get(target: Target) -> dict[str, Any]:
            nonlocal looks
            looks += 1
            raise UnavailableError("down")

        edges.get = get  # type: ignore[method-assign]
        reconciler.observe(RequestView.of(body(spec={"plugin": "absent"})))
        await settle(lambda: looks >= 3)
        (entry,) = reconciler._agenda._entries.values()
        entry.retries, looks = 1100, 0  # a day of waiting
        await settle(lambda: looks >= 3)

    run(test)


def test_a_defect_costs_a_retry_and_no_other_request_anything(
    quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decide, failures = reconciling.decide, 0

    def defective(view: RequestView, now: datetime.datetime) -> object:
        nonlocal failures
        if failures < 3:
            failures += 1
            raise RuntimeError("a defect")
        return decide(view, now)

    monkeypatch.setattr(reconciling, "decide", defective)

    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        reconciler.observe(RequestView.of(body()))
        await settle(lambda: bool(edges.statuses))
        assert statuses.is_true(edges.statuses[0], statuses.READY)

    with caplog.at_level(logging.ERROR):
        run(test)
    assert failures == 3
    assert "n/a: the reconcile failed; trying again" in caplog.text


def test_close_leaves_no_timer_and_no_task() -> None:
    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        started = asyncio.Event()

        async def forever(task: object, **_: object) -> Solved:
            started.set()
            await asyncio.Event().wait()
            raise AssertionError

        edges.run = forever  # type: ignore[method-assign]
        reconciler.observe(RequestView.of(body()))
        await started.wait()
        await reconciler.close()
        assert reconciler.under_way == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not edges.statuses

    run(test)


def test_an_object_that_takes_no_status_at_all_gets_an_event() -> None:
    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        edges.on_write = lambda status: Written.REFUSED
        reconciler.observe(RequestView.of(body()))
        await settle(lambda: reconciler.under_way == 0)
        assert [statuses.find(status, statuses.READY)["reason"] for status in edges.statuses] == [
            Reason.SOLVED,
            Reason.RESULT_TOO_LARGE,
        ]
        assert edges.events == [Reason.RESULT_TOO_LARGE]

    run(test)


def test_what_is_cancelled_before_it_began_warns_of_nothing() -> None:
    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        reconciler.observe(RequestView.of(body()))
        reconciler.gone(RequestView.of(body()))
        await asyncio.sleep(0)
        assert not edges.statuses

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(test)
        gc.collect()
    assert not caught


@pytest.mark.parametrize("ended_by", ["close", "deletion"])
def test_a_progress_write_that_the_api_server_does_not_answer_holds_up_no_end(
    monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    monkeypatch.setattr(progress, "FIRST_REPORT_SECONDS", 0.0)

    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        writing = asyncio.Event()

        async def hang(*_: object, **__: object) -> Any:
            writing.set()
            await asyncio.Event().wait()

        async def solve(*_: object, **__: object) -> Any:
            await asyncio.Event().wait()

        edges.run = solve  # type: ignore[method-assign]
        edges.write = hang  # type: ignore[method-assign]
        reconciler.observe(RequestView.of(body()))
        await writing.wait()
        if ended_by == "close":
            await reconciler.close()
        else:
            reconciler.gone(RequestView.of(body()))
        await settle(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    run(test)


def test_a_final_write_waits_for_the_progress_write_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_REPORT_SECONDS", 0.0)

    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        writing, answer = asyncio.Event(), asyncio.Event()
        order: list[str] = []

        async def write(target: Target, status: dict[str, Any]) -> Written:
            final = statuses.find(status, statuses.RECONCILING) is None
            if not final:
                writing.set()
                await answer.wait()
            order.append("final" if final else "progress")
            return Written.DONE

        async def solve(*_: object, **__: object) -> Solved:
            await writing.wait()
            asyncio.get_running_loop().call_later(0.02, answer.set)
            return SOLVED

        edges.run = solve  # type: ignore[method-assign]
        edges.write = write  # type: ignore[method-assign]
        reconciler.observe(RequestView.of(body()))
        await settle(lambda: len(order) == 2)
        assert order == ["progress", "final"]

    run(test)


class Slow:
    """A plugin, and all that there are: it says no to one request at a time, when it is told to."""

    name = "slow"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.goes_on = asyncio.Semaphore(0)

    def select(self, request_type: str, pinned: str | None) -> list[Slow]:
        return [self]

    async def ask(self, ask: Ask, **_: object) -> Said:
        self.asked.append(ask.request_id)
        await self.goes_on.acquire()
        return Said(self.name, no="it does not know")


def test_a_request_that_waits_for_its_place_is_not_said_to_be_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_REPORT_SECONDS", 0.0)
    monkeypatch.setattr(reconciling, "TURNS_PER_WORKER", 1)
    monkeypatch.setattr(agenda, "FIRST_RETRY_SECONDS", 3600.0)

    async def main() -> None:
        edges, slow = Edges(), Slow()
        reconciler = edges.reconciler(slow)
        told: list[tuple[str, str]] = []

        async def write(target: Target, status: dict[str, Any]) -> Written:
            condition = statuses.find(status, statuses.READY) or {}
            told.append((target.name, condition["reason"]))
            return Written.DONE

        edges.write = write  # type: ignore[method-assign]
        for name in ("a", "b", "c"):
            seen = body(spec={"type": "ml-driven", "plugin": "slow"})
            seen["metadata"] |= {"name": name, "uid": name}
            reconciler.observe(RequestView.of(seen))
        expected = []
        for count, name in enumerate(("a", "b", "c"), start=1):
            expected.append((name, Reason.SOLVING))
            await settle(lambda: sorted(told) == sorted(expected))
            for _ in range(50):  # passes of the event loop, each with the timers of all
                await asyncio.sleep(0)
            assert (sorted(told), len(slow.asked)) == (sorted(expected), count)
            slow.goes_on.release()
            expected.append((name, Reason.NO_PLUGIN))
        await settle(lambda: sorted(told) == sorted(expected))
        await reconciler.close()

    run_alone(main())


class Server:
    """A connection whose answers are listed: an error, or None for success."""

    def __init__(self, *answers: Exception | None, current: list[Exception | dict[str, Any]] | None = None) -> None:
        self.answers = list(answers)
        self.current = current or []
        self.patches = 0

    async def request(self, *_: object, **__: object) -> bytes:
        self.patches += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer
        return b"{}"

    async def get(self, path: str) -> dict[str, Any]:
        answer = self.current.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def write(server: Any) -> Written:
    return asyncio.run(StatusWriter(server).write(TARGET, {"observedGeneration": 1}))


def test_credentials_that_are_renewed_late_cost_no_answer(quick: None) -> None:
    unauthorized = ApiError(401, {"reason": "Unauthorized"})
    assert write(Server(unauthorized, unauthorized, None)) is Written.DONE


def test_an_outage_of_a_day_costs_no_answer(quick: None) -> None:
    assert write(Server(*[UnavailableError("down")] * 1100, None)) is Written.DONE


def test_an_object_at_the_limit_of_etcd_is_refused_at_once(quick: None) -> None:
    server = Server(ApiError(500, {"message": "etcdserver: request is too large"}))
    assert write(server) is Written.REFUSED
    assert server.patches == 1


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_refusal_that_lasts_is_told_and_holds_up_nobody(quick: None, status: int) -> None:
    with pytest.raises(ApiError):
        write(Server(ApiError(status, {"message": "a webhook says no"})))


def test_whether_a_refused_patch_was_for_this_object_is_found_out_however_long_it_takes(quick: None) -> None:
    ours = {"metadata": {"uid": "u", "generation": 1}}
    changed = {"metadata": {"uid": "u", "generation": 2}}
    away: list[Exception | dict[str, Any]] = [UnavailableError("down"), ApiError(503, {}), UnavailableError("down")]
    invalid = ApiError(422, {"reason": "Invalid"})
    assert write(Server(invalid, current=[*away, ours])) is Written.REFUSED
    assert write(Server(invalid, current=[*away, changed])) is Written.DROPPED
    assert write(Server(invalid, current=[*away, ApiError(404, {})])) is Written.DROPPED


def test_a_deletion_says_when_the_object_has_changed_and_nothing_when_it_is_gone() -> None:
    changed: Any = Server(ApiError(409, {"reason": "Conflict"}))
    with pytest.raises(ApiError):
        asyncio.run(Requests(changed).delete(TARGET, "1"))
    gone: Any = Server(ApiError(404, {"reason": "NotFound"}))
    asyncio.run(Requests(gone).delete(TARGET, "1"))


def test_what_the_caller_has_in_its_context_is_not_kept_alive() -> None:
    """kopf's context holds the whole object; a queued solve or a timer of hours would hold it too."""

    class Whole:
        """An object as kopf holds it."""

    seen: contextvars.ContextVar[Whole] = contextvars.ContextVar("seen")

    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        async def handle(view: RequestView) -> weakref.ref[Whole]:
            whole = Whole()
            seen.set(whole)
            reconciler.observe(view)
            return weakref.ref(whole)

        never = asyncio.Event()

        async def block(*_: object, **__: object) -> Solved:
            await never.wait()
            return SOLVED

        edges.run = block  # type: ignore[method-assign]
        solving = await asyncio.create_task(handle(RequestView.of(body())))
        done = statuses.timestamp(datetime.datetime.now(datetime.UTC))
        answered = {"observedGeneration": 1, "run": 1, "completionTime": done}
        timed_body = body(answered, spec={"intervalSeconds": 3600})
        timed_body["metadata"]["uid"] = "v"
        timed = await asyncio.create_task(handle(RequestView.of(timed_body)))
        await asyncio.sleep(0.01)
        gc.collect()
        assert reconciler.under_way == 2
        assert solving() is None
        assert timed() is None

    run(test)


LIVE = {"data": None, "dataFrom": {"cluster": {}}, "intervalSeconds": 10}


def due(status: dict[str, Any]) -> dict[str, Any]:
    """Return an answer's status as if its interval were over."""
    return {**status, "completionTime": "2026-01-01T00:00:00Z"}


def test_a_standing_question_about_the_cluster_is_solved_again_only_when_something_has_changed(quick: None) -> None:
    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        reconciler.observe(RequestView.of(body(spec=LIVE)))
        await settle(lambda: len(edges.statuses) == 1)
        assert edges.statuses[0]["inputDigest"] == "first"
        answer = due(edges.statuses[0])

        edges.current = body(answer, spec=LIVE)
        reconciler.observe(RequestView.of(edges.current))
        await settle(lambda: edges.looks == 2)
        await asyncio.sleep(0)
        assert (edges.solves, len(edges.statuses)) == (1, 1)
        assert reconciler.under_way == 1  # it looks again after the interval

        edges.digest = "second"
        reconciler.gone(RequestView.of(body()))
        reconciler.observe(RequestView.of(edges.current))
        await settle(lambda: len(edges.statuses) == 2)
        assert (edges.statuses[1]["run"], edges.statuses[1]["inputDigest"]) == (2, "second")

    run(test)


def test_a_question_that_waited_since_its_answer_is_solved_again_though_nothing_has_changed(quick: None) -> None:
    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        attempt = statuses.Attempt({}, 1, 1, datetime.datetime.now(datetime.UTC), input_digest="first")
        solution = statuses.Solution({}, Reason.SOLVED, "m", {"durationMs": 1}, {})
        answer = due(statuses.answered(attempt, solution, attempt.started))
        again = dataclasses.replace(attempt, previous=answer, run=2)
        waited = statuses.waiting(again, Reason.SOURCE_UNAVAILABLE, "gone", attempt.started)

        edges.current = body(waited, spec=LIVE)
        reconciler.observe(RequestView.of(edges.current))
        await settle(lambda: bool(edges.statuses))
        assert not statuses.is_true(edges.statuses[-1], statuses.RECONCILING)
        assert edges.statuses[-1]["run"] == 2

    run(test)


def test_an_answer_that_landed_before_its_write_was_dropped_is_recorded() -> None:
    async def main() -> None:
        log = HistoryLog(MemoryStore())
        await log.load()
        edges = Edges()
        edges.history = HistoryKeeper(log, outcome_window_ms=1, opened=lambda: None)
        reconciler = edges.reconciler()

        def response_is_lost(status: dict[str, Any]) -> Written:
            # It landed, the spec was changed, and the write that was tried again found another generation.
            edges.current = body(status, generation=2, spec={"suspend": True})
            return Written.DROPPED

        edges.on_write = response_is_lost
        reconciler.observe(RequestView.of(body()))
        await settle(lambda: len(log.collector) == 1)
        await reconciler.close()

    run_alone(main())


def test_what_waits_for_a_plugin_is_tried_again_when_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agenda, "FIRST_RETRY_SECONDS", 3600.0)
    monkeypatch.setattr(agenda, "LAST_RETRY_SECONDS", 3600.0)

    async def test(edges: Edges, reconciler: RequestReconciler) -> None:
        edges.current = body(spec={"plugin": "absent"})
        reconciler.observe(RequestView.of(edges.current))
        await settle(lambda: len(edges.statuses) == 1)
        condition = statuses.find(edges.statuses[0], statuses.READY)
        assert condition is not None
        assert (condition["reason"], edges.solves) == (Reason.NO_PLUGIN, 0)
        edges.current = body(edges.statuses[0])
        reconciler.wake({Reason.FORBIDDEN})
        assert edges.solves == 0
        reconciler.wake({Reason.NO_PLUGIN, Reason.NOT_ENOUGH_DATA})
        await settle(lambda: edges.solves == 1)

    run(test)
