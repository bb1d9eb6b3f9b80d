"""The keeper between statuses and the log: whatever dies when, each finished solve is one point."""

from __future__ import annotations

import asyncio
import collections
import datetime
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.api import status as statuses
from engine_ops.api.history_point import MAX_HISTORY_POINTS
from engine_ops.api.optimizationrequest import OptimizationRequestSpec, OptimizationRequestStatus
from engine_ops.api.reasons import Reason
from engine_ops.api.status import Attempt
from engine_ops.controllers.history_keeper import HistoryKeeper
from engine_ops.controllers.view import RequestView
from engine_ops.history.facts import Asked, facts_of, point_of
from engine_ops.history.keys import key_of
from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.history.store import StoreError
from engine_ops.kube.target import Target

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
ASKED = Asked(type="resource", request={"items.count": 3.0, "team": "shop"})
Key = tuple[str, int, int]


class Cluster:
    """The API server as far as this matters: objects with a generation and a status, which a guarded patch writes."""

    def __init__(self) -> None:
        self.objects: dict[str, RequestView] = {}
        self.finished: set[Key] = set()

    def make(self, uid: str) -> None:
        self.objects[uid] = RequestView(Target("n", uid, uid, 1), deleting=False, spec={}, status={})

    def change(self, uid: str) -> None:
        view = self.objects[uid]
        target = Target("n", uid, uid, view.target.generation + 1)
        self.objects[uid] = RequestView(target, deleting=False, spec={}, status=view.status)

    def write(self, target: Target, attempt: Attempt, status: Mapping[str, Any]) -> bool:
        if self.objects[target.uid].target != target:
            return False
        stored = msgspec.json.decode(msgspec.json.encode(status))
        OptimizationRequestStatus.model_validate(stored)
        self.objects[target.uid] = RequestView(target, deleting=False, spec={}, status=stored)
        self.finished.add((target.uid, attempt.generation, attempt.run))
        return True


class Operator:
    """A log and its keeper: what a process has in memory."""

    def __init__(self, store: MemoryStore, clock_ms: int) -> None:
        self.clock_ms = clock_ms
        self.log = HistoryLog(store, capacity=1000, segment_points=5, clock=lambda: self.clock_ms, lag_ms=1000)
        self.keeper = HistoryKeeper(self.log, outcome_window_ms=1000, opened=lambda: None)
        self.log.begin(0)

    async def start(self, cluster: Cluster) -> None:
        await self.log.load()
        for view in cluster.objects.values():
            self.keeper.note(view)
        self.log.abandon(0)


def solve(
    operator: Operator,
    cluster: Cluster,
    uid: str,
    run: int,
    dies: str,
    asked: Asked = ASKED,
    reason: str = Reason.SOLVED,
) -> None:
    """Finish a solve; the process may die before the write, or after it and before it hears of that."""
    view = cluster.objects[uid]
    attempt = Attempt(view.status, view.target.generation, run, NOW)
    if reason == Reason.SOLVED:
        solution = statuses.Solution({}, Reason.SOLVED, "", {"durationMs": 5, "score": 1.0}, {"algorithm": "a"})
        status = statuses.answered(attempt, solution, NOW)
    else:
        status = statuses.stalled(attempt, reason, "wrong", NOW)
    operator.keeper.sign(view.target, attempt, status, asked)
    if dies == "before":
        return
    landed = cluster.write(view.target, attempt, status)
    if dies == "after":
        return
    if landed:
        operator.keeper.landed(view.target)
    else:
        operator.keeper.missed(view.target)


async def stored_keys(store: MemoryStore) -> list[Key]:
    log = HistoryLog(store, capacity=1000, segment_points=5)
    await log.load(read_only=True)
    found = [point.metadata for point in log.collector.select().points()]
    found += [opened.point.metadata for opened in log.open_points.values()]
    return [(metadata["uid"], metadata["generation"], metadata["run"]) for metadata in found]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["solve", "solve", "run", "change", "flush", "crash-before", "crash-after", "clock"]),
        st.integers(0, 3),
        st.integers(-5_000, 5_000),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(STEPS)
def test_each_finished_solve_is_one_point_whatever_dies_when(steps: list[tuple[str, int, int]]) -> None:
    async def main() -> None:
        store, cluster = MemoryStore(), Cluster()
        clock = 1_000_000
        operator = Operator(store, clock)
        await operator.start(cluster)
        for what, which, by in steps:
            uid = f"u{which}"
            if uid not in cluster.objects:
                cluster.make(uid)
            view = cluster.objects[uid]
            operator.clock_ms = clock = clock + 10
            if what == "clock":
                clock += by
            elif what == "flush":
                await operator.log.flush()
            elif what == "change":
                cluster.change(uid)
                operator.keeper.note(cluster.objects[uid])
            elif view.answers_its_spec and what == "run":
                if not operator.keeper.has_room(view.target, view.status):
                    assert await operator.keeper.settle(view.target, view.status)
                solve(operator, cluster, uid, view.status["run"] + 1, "")
            elif not view.answers_its_spec:
                if not operator.keeper.has_room(view.target, view.status):
                    assert await operator.keeper.settle(view.target, view.status)
                dies = what.removeprefix("crash-") if what.startswith("crash") else ""
                solve(operator, cluster, uid, 1, dies)
            if what.startswith("crash"):
                operator = Operator(store, clock)
                await operator.start(cluster)
        operator = Operator(store, clock)
        await operator.start(cluster)
        await operator.log.flush()
        counts = collections.Counter(await stored_keys(store))
        assert set(counts) == cluster.finished
        assert set(counts.values()) <= {1}

    asyncio.run(main())


def test_a_status_carries_what_is_not_written_yet_and_no_more() -> None:
    async def main() -> None:
        store, cluster = MemoryStore(), Cluster()
        operator = Operator(store, 1_000)
        await operator.start(cluster)
        cluster.make("u")
        for run in (1, 2, 3):
            solve(operator, cluster, "u", run, "")
        assert [fact.run for fact in facts_of(cluster.objects["u"].status)] == [1, 2, 3]
        await operator.log.flush()
        solve(operator, cluster, "u", 4, "")
        assert [fact.run for fact in facts_of(cluster.objects["u"].status)] == [4]

    asyncio.run(main())


def test_no_answer_overwrites_one_that_there_is_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        store, cluster = MemoryStore(), Cluster()
        operator = Operator(store, 1_000)
        await operator.start(cluster)

        async def refuse(*_: object, **__: object) -> str:
            raise StoreError("no")

        monkeypatch.setattr(store, "create", refuse)
        cluster.make("u")
        view = cluster.objects["u"]
        for run in range(1, MAX_HISTORY_POINTS + 1):
            assert operator.keeper.has_room(view.target, cluster.objects["u"].status)
            solve(operator, cluster, "u", run, "")
        status = cluster.objects["u"].status
        assert not operator.keeper.has_room(view.target, status)
        assert not await operator.keeper.settle(view.target, status)
        monkeypatch.undo()
        assert await operator.keeper.settle(view.target, status)
        assert operator.keeper.has_room(view.target, status)

    asyncio.run(main())


def test_an_old_view_does_not_take_a_write_that_is_on_its_way_for_lost() -> None:
    async def main() -> None:
        store, cluster = MemoryStore(), Cluster()
        operator = Operator(store, 1_000_000)
        await operator.start(cluster)
        cluster.make("u")
        old = cluster.objects["u"]
        cluster.change("u")
        view = cluster.objects["u"]
        attempt = Attempt({}, 2, 1, NOW)
        status = statuses.stalled(attempt, Reason.INVALID_DATA, "", NOW)
        operator.keeper.sign(view.target, attempt, status, ASKED)
        stamp = facts_of(status)[0].stamp
        operator.keeper.note(old)  # a list that was read before the change
        operator.clock_ms += 60_000
        await operator.log.flush()
        assert operator.log.stamps.watermark < stamp
        operator.keeper.landed(view.target)
        assert operator.log.knows(key_of("u", 2, 1), stamp)

    asyncio.run(main())


def test_a_request_that_is_gone_is_recorded_from_its_last_state() -> None:
    async def main() -> None:
        store, cluster = MemoryStore(), Cluster()
        operator = Operator(store, 1_000_000)
        await operator.start(cluster)
        cluster.make("u")
        solve(operator, cluster, "u", 1, "after")  # it landed, and its task was cancelled before it heard of it
        operator.keeper.note(cluster.objects["u"], gone=True)
        await operator.log.flush()
        assert await stored_keys(store) == [("u", 1, 1)]
        cluster.make("v")
        solve(operator, cluster, "v", 1, "before")
        operator.keeper.note(cluster.objects["v"], gone=True)
        operator.clock_ms += 60_000
        cluster.make("w")
        solve(operator, cluster, "w", 1, "")
        await operator.log.flush()
        assert operator.log.stamps.watermark == operator.clock_ms - 1000, "a write that never landed holds nothing up"

    asyncio.run(main())


def test_only_an_answer_waits_for_the_outcome_of_its_workload() -> None:
    async def main() -> None:
        store, cluster = MemoryStore(), Cluster()
        opened = []
        operator = Operator(store, 1_000_000)
        operator.keeper = HistoryKeeper(operator.log, outcome_window_ms=1000, opened=lambda: opened.append(1))
        await operator.start(cluster)
        spec = {"type": "performance", "data": {}, "workloadRef": {"kind": "Job", "name": "j"}}
        asked = Asked.of(OptimizationRequestSpec.model_validate(spec), {})
        for uid, reason in (("good", Reason.SOLVED), ("bad", Reason.INVALID_DATA)):
            cluster.make(uid)
            solve(operator, cluster, uid, 1, "", asked, reason)
        (waiting,) = operator.log.open_points.values()
        assert waiting.point.metadata["workload"] == {"kind": "Job", "namespace": "n", "name": "j"}
        assert "outcome" not in waiting.point.metadata
        assert waiting.closes_at_ms == waiting.point.timestamp + 1000
        assert len(opened) == 1
        (failed,) = operator.log.collector.select().points()
        assert failed.metadata["outcome"]["of"] == "request"
        assert failed.success is False

    asyncio.run(main())


def test_the_point_of_a_fact() -> None:
    status = {
        "historyPoints": [
            {"generation": 1},  # edited by hand: left out
            {
                "generation": 2,
                "run": 3,
                "stamp": 9,
                "timestamp": 7,
                "type": "resource",
                "success": True,
                "reason": "Solved",
                "durationMs": 5,
                "score": 0.5,
                "algorithm": "a",
                "request": {"team": "shop", "items.count": 3},
            },
        ]
    }
    (fact,) = facts_of(status)
    point = point_of(fact, uid="u", namespace="n", name="r")
    assert point.to_dict() == {
        "timestamp": 7,
        "requestType": "resource",
        "resourceUsage": {},
        "duration": 5.0,
        "success": True,
        "metadata": {
            "uid": "u",
            "generation": 2,
            "run": 3,
            "namespace": "n",
            "name": "r",
            "solve": {"durationMs": 5, "reason": "Solved", "score": 0.5, "algorithm": "a"},
            "request": {"team": "shop", "items.count": 3},
            "outcome": {"of": "request", "state": "succeeded", "reason": "Solved", "closedAt": 12},
        },
    }


@pytest.mark.parametrize("entries", [None, "text", 5, {}, [5], [None], [{"generation": "x"}]])
def test_a_status_that_somebody_edited_has_no_facts(entries: Any) -> None:
    assert facts_of({"historyPoints": entries}) == []
