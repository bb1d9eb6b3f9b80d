"""The reconcile loop of plugins between stand-ins of what is at its edges."""

# ruff: noqa: ARG005, ASYNC110  # stand-ins have the signatures of what they stand for; a test may poll

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from engine_ops.api.optimizerplugin import OptimizerPluginSpec, OptimizerPluginStatus
from engine_ops.api.reasons import Reason
from engine_ops.controllers import plugin_reconciler as reconciling
from engine_ops.controllers.plugin_reconciler import PluginReconciler
from engine_ops.controllers.view import PluginView
from engine_ops.kube.errors import ApiError
from engine_ops.kube.status_writer import Written
from engine_ops.kube.target import Target
from engine_ops.plugins.snapshot import Counts, PluginSnapshot

SPEC = {"source": {"entryPoint": "a.b:C"}}
HOUR = 3600.0


def body(
    generation: int = 1, status: dict | None = None, uid: str = "u", deleting: bool = False, **spec: Any
) -> dict[str, Any]:
    metadata = {"name": "p", "uid": uid, "generation": generation}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    return {"metadata": metadata, "spec": {**SPEC, **spec}, "status": status or {}}


def view(generation: int = 1, status: dict | None = None, uid: str = "u", **more: Any) -> PluginView:
    return PluginView.of(body(generation, status, uid, **more))


class Edges:
    """The manager, the model store and the API server. What a test wants of a call it puts in place of the method."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.snapshots: dict[str, PluginSnapshot] = {}
        self.statuses: list[dict[str, Any]] = []
        self.targets: list[Target] = []
        self.events: list[tuple[str, str]] = []
        self.callback: Callable[[str], None] = lambda name: None
        self.on_apply: Callable[[OptimizerPluginSpec], Coroutine[Any, Any, None]] | None = None
        self.on_write: Callable[[dict[str, Any]], Written] = lambda status: Written.DONE
        self.on_forget: Callable[[], None] = lambda: None

    async def apply(self, name: str, spec: OptimizerPluginSpec) -> None:
        self.calls.append(f"apply {spec.priority}" if spec.enabled else "disable")
        if self.on_apply is not None:
            await self.on_apply(spec)
        self.stands(Reason.RUNNING if spec.enabled else Reason.DISABLED)

    async def remove(self, name: str) -> None:
        self.calls.append("remove")
        self.snapshots.pop(name, None)

    async def forget(self, plugin: str) -> None:
        self.on_forget()
        self.calls.append("forget")

    def snapshot(self, name: str) -> PluginSnapshot | None:
        return self.snapshots.get(name)

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        self.callback = callback
        return lambda: None

    def stands(self, state: Reason, **fields: Any) -> None:
        self.snapshots["p"] = PluginSnapshot(name="p", enabled=True, state=state, message=f"{state}", **fields)
        self.callback("p")

    async def write(self, target: Target, status: dict[str, Any]) -> Written:
        OptimizerPluginStatus.model_validate(status)
        await asyncio.sleep(0)
        # Last of all: who sees it here sees what follows from it.
        self.statuses.append(msgspec.json.decode(msgspec.json.encode(status)))
        self.targets.append(target)
        return self.on_write(status)

    def record(self, target: Target, type_: str, reason: str, message: str) -> None:
        self.events.append((type_, reason))

    @property
    def told(self) -> list[tuple[str, int]]:
        """Reason of Ready and generation of each status that was written."""
        return [(status["conditions"][0]["reason"], status["observedGeneration"]) for status in self.statuses]


def run(test: Callable[[Edges, PluginReconciler], Coroutine[Any, Any, None]], numbers_seconds: float = HOUR) -> None:
    async def inner() -> None:
        edges: Any = Edges()
        reconciler = PluginReconciler(
            plugins=edges, models=edges, writer=edges, events=edges,
            coalesce_seconds=0.005, numbers_seconds=numbers_seconds,
        )  # fmt: skip
        async with asyncio.timeout(60):
            await test(edges, reconciler)
        await reconciler.close()

    asyncio.run(inner())


async def settle(until: Callable[[], Any]) -> None:
    """Let the loop run until something is so; `run` has the deadline."""
    while not until():
        await asyncio.sleep(0.001)


async def quiet(edges: Edges, reconciler: PluginReconciler) -> None:
    """Let everything that is due be told: a change of the conditions is told after all that came before it."""
    before = len(edges.statuses)
    edges.stands(Reason.CRASH_LOOPING)
    await settle(lambda: len(edges.statuses) > before)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciling, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(reconciling, "LAST_RETRY_SECONDS", 0.002)


def test_a_plugin_is_run_as_its_spec_says_and_told_once() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view())
        await settle(lambda: edges.told)
        reconciler.observe(view(status=edges.statuses[0]))  # the echo of our own write
        await quiet(edges, reconciler)
        assert edges.calls == ["apply 0"]
        assert edges.told == [("Running", 1), ("CrashLooping", 1)]
        assert str(edges.targets[0]) == "OptimizerPlugin p"
        assert edges.targets[0].path("status") == "/apis/engineops.dev/v1alpha1/optimizerplugins/p/status"

    run(test)


def test_after_a_restart_nothing_is_written_for_a_plugin_that_stands_as_it_stood() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view())
        await settle(lambda: edges.told)
        second = Edges()
        anew: Any = second
        restarted = PluginReconciler(
            plugins=anew, models=anew, writer=anew, events=anew, coalesce_seconds=0.005, numbers_seconds=HOUR
        )
        restarted.observe(view(status=edges.statuses[0]))
        await settle(lambda: restarted.under_way == 0)
        await quiet(second, restarted)
        assert second.told == [("CrashLooping", 1)]
        assert second.events == [("Warning", "CrashLooping")]
        await restarted.close()

    run(test)


def test_a_status_of_before_our_write_that_is_shown_late_is_not_taken_for_the_present_one() -> None:
    """A restart lists the plugins, and the watch lists them again: between the two, we have told that it starts."""

    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view())
        await settle(lambda: edges.told)
        before = edges.statuses[0]
        second = Edges()
        anew: Any = second
        restarted = PluginReconciler(
            plugins=anew, models=anew, writer=anew, events=anew, coalesce_seconds=0.005, numbers_seconds=HOUR
        )

        async def starts(spec: OptimizerPluginSpec) -> None:
            second.stands(Reason.STARTING)
            await settle(lambda: second.told)
            restarted.observe(view(status=before))
            restarted.observe(view(status=second.statuses[0]))

        second.on_apply = starts
        restarted.observe(view(status=before))
        await settle(lambda: len(second.told) > 1)
        assert [reason for reason, _ in second.told] == ["Starting", "Running"]
        await restarted.close()

    run(test)


def test_a_newer_spec_ends_the_attempt_at_an_older_one() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        cancelled: list[int] = []

        async def imports_for_an_hour(spec: OptimizerPluginSpec) -> None:
            if spec.enabled:
                edges.stands(Reason.STARTING)
                try:
                    await asyncio.sleep(HOUR)
                except asyncio.CancelledError:
                    cancelled.append(spec.priority)
                    raise

        edges.on_apply = imports_for_an_hour
        reconciler.observe(view(priority=1))
        await settle(lambda: edges.told)
        reconciler.observe(view(2, priority=2, enabled=False))
        await settle(lambda: len(edges.told) > 1)
        assert cancelled == [1]
        # What is still being taken over is not told as the answer to its spec.
        assert edges.told == [("Starting", -1), ("Disabled", 2)]

    run(test)


def test_the_generation_before_is_told_until_the_new_one_has_taken_over() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view())
        await settle(lambda: edges.told)
        ready = asyncio.Event()

        async def slowly(spec: OptimizerPluginSpec) -> None:
            await ready.wait()

        edges.on_apply = slowly
        reconciler.observe(view(2, status=edges.statuses[0]))
        edges.stands(Reason.RUNNING, version="old")
        await settle(lambda: len(edges.told) == 2)
        ready.set()
        await settle(lambda: len(edges.told) == 3)
        assert edges.told == [("Running", 1), ("Running", 1), ("Running", 2)]
        assert [target.generation for target in edges.targets] == [1, 2, 2]

    run(test)


def test_a_spec_that_is_wrong_takes_the_plugin_out_and_says_where() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view())
        await settle(lambda: edges.told)
        reconciler.observe(view(2, status=edges.statuses[0], priority="high"))
        await settle(lambda: len(edges.told) == 2)
        assert edges.calls == ["apply 0", "disable"]  # its models stay
        (ready, stalled) = edges.statuses[1]["conditions"]
        assert (ready["reason"], stalled["type"]) == ("InvalidSpec", "Stalled")
        assert ready["message"].startswith("spec.priority: ")
        assert edges.events == [("Normal", "Running"), ("Warning", "InvalidSpec")]

    run(test)


def test_a_spec_that_was_wrong_from_the_start_runs_nothing_until_it_is_put_right() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view(source={}))
        await settle(lambda: edges.told)
        assert edges.calls == []
        reconciler.observe(view(2, status=edges.statuses[0]))
        await settle(lambda: len(edges.told) == 2)
        assert edges.told == [("InvalidSpec", 1), ("Running", 2)]

    run(test)


def test_a_plugin_that_is_gone_ends_and_its_models_go() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view())
        await settle(lambda: edges.told)
        reconciler.gone(view())
        await settle(lambda: "forget" in edges.calls)
        assert edges.calls[:3] == ["apply 0", "remove", "forget"]
        edges.callback("p")  # nobody is told of it any more
        await settle(lambda: not reconciler._entries)
        assert len(edges.statuses) == 1

    run(test)


def test_one_that_is_made_again_under_its_name_starts_without_the_models_of_the_first(at_once: None) -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        outage = [ApiError(503, {}), ApiError(503, {})]

        def fails_twice() -> None:
            if outage:
                raise outage.pop()

        edges.on_forget = fails_twice
        reconciler.observe(view())
        await settle(lambda: edges.told)
        reconciler.gone(view())
        reconciler.observe(view(uid="v", priority=7))
        reconciler.gone(view())  # late: it is of the first one
        await settle(lambda: "apply 7" in edges.calls)
        assert edges.calls.index("forget") < edges.calls.index("apply 7")
        await settle(lambda: len(edges.statuses) == 2)
        assert edges.targets[1].uid == "v"

    run(test)


def test_a_second_uid_without_an_end_of_the_first_is_another_plugin() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view())
        await settle(lambda: edges.told)
        reconciler.observe(view(uid="v"))
        await settle(lambda: len(edges.calls) == 4)
        assert edges.calls == ["apply 0", "remove", "forget", "apply 0"]

    run(test)


def test_one_that_is_being_deleted_is_asked_no_more_and_keeps_its_models_until_it_is_gone() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view())
        await settle(lambda: edges.told)
        reconciler.observe(view(deleting=True))
        await settle(lambda: reconciler.under_way == 0)
        assert edges.calls == ["apply 0", "disable"]
        reconciler.gone(view(deleting=True))
        await settle(lambda: "forget" in edges.calls)

    run(test)


def test_a_defect_or_an_outage_is_tried_again(at_once: None, caplog: pytest.LogCaptureFixture) -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        errors: list[Exception] = [TypeError("a defect"), ApiError(500, {})]

        async def fails(spec: OptimizerPluginSpec) -> None:
            if errors:
                raise errors.pop()

        edges.on_apply = fails
        refusals: list[Exception] = [ApiError(403, {"message": "a webhook"}), ValueError("a defect")]

        def refuses(status: dict[str, Any]) -> Written:
            if refusals:
                raise refusals.pop()
            return Written.DONE

        edges.on_write = refuses
        reconciler.observe(view())
        await settle(lambda: len(edges.statuses) == 3)
        assert edges.calls == ["apply 0"] * 3
        assert set(edges.told) == {("Running", 1)}

    with caplog.at_level(logging.CRITICAL):
        run(test)


def test_a_name_that_an_installed_plugin_has_is_refused_in_the_status() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        async def refuses(spec: OptimizerPluginSpec) -> None:
            raise ValueError("there is a plugin p already")

        edges.on_apply = refuses
        reconciler.observe(view())
        await settle(lambda: edges.told)
        (ready, stalled) = edges.statuses[0]["conditions"]
        assert ready["message"] == stalled["message"] == "metadata.name: there is a plugin p already"

    run(test)


def test_a_plugin_that_comes_while_the_one_before_it_is_forgotten_waits_for_that() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        let_go, reached = asyncio.Event(), asyncio.Event()

        async def slowly(plugin: str) -> None:
            reached.set()
            await let_go.wait()
            edges.calls.append("forget")

        edges.forget = slowly  # type: ignore[method-assign]
        reconciler.observe(view())
        await settle(lambda: edges.told)
        reconciler.gone(view())
        await reached.wait()
        reconciler.observe(view(uid="v", priority=1))
        reconciler.observe(view(2, uid="v", priority=2))
        let_go.set()
        await settle(lambda: len(edges.told) == 2)
        assert edges.calls == ["apply 0", "remove", "forget", "apply 2"]
        assert edges.told[1] == ("Running", 2)

    run(test)


def test_a_status_that_is_refused_is_not_written_again_and_the_next_one_is() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        edges.on_write = lambda status: Written.REFUSED
        reconciler.observe(view())
        await settle(lambda: edges.told)
        edges.callback("p")
        await quiet(edges, reconciler)
        assert [reason for reason, _ in edges.told] == ["Running", "CrashLooping"]
        assert edges.events == []  # nobody has read it

    run(test)


def test_counts_wait_and_conditions_take_them_along() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view())
        await settle(lambda: edges.told)
        for requests in range(1, 50):
            edges.stands(Reason.RUNNING, counts=Counts(requests))
            await asyncio.sleep(0)
        edges.stands(Reason.DISABLED, counts=Counts(50))
        await settle(lambda: len(edges.statuses) == 2)
        assert edges.statuses[1]["counts"]["requests"] == 50

    run(test)


def test_counts_are_told_when_it_is_time_without_another_change() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view())
        await settle(lambda: edges.told)
        # Changed without a word: what runs plugins need not tell of every request.
        edges.snapshots["p"] = dataclasses.replace(edges.snapshots["p"], counts=Counts(3))
        await settle(lambda: len(edges.statuses) == 2)
        assert edges.statuses[1]["counts"]["requests"] == 3

    run(test, numbers_seconds=0.02)


def test_events_tell_changes_of_ready_and_degraded_and_nothing_else() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        async def tell(state: Reason, **fields: Any) -> None:
            before = len(edges.statuses)
            edges.stands(state, **fields)
            await settle(lambda: len(edges.statuses) > before)

        reconciler.observe(view())
        await settle(lambda: edges.told)
        await tell(Reason.RUNNING, trained=(Reason.TRAINING, "at it"))
        await tell(Reason.STARTING)
        await tell(Reason.UPDATING)
        await tell(Reason.RUNNING, trained=(Reason.TRAINED, "done"), is_trained=True)
        await tell(Reason.CRASH_LOOPING, degraded="it crashed 5 times")
        await tell(Reason.CRASH_LOOPING, degraded="it crashed 6 times")
        await tell(Reason.RUNNING)
        await tell(Reason.DISABLED)
        assert edges.events == [
            ("Normal", "Running"),
            ("Warning", "CrashLooping"),
            ("Normal", "Running"),
            ("Normal", "Disabled"),
        ]

    run(test)


def test_a_status_that_somebody_else_wrote_is_put_right_but_not_in_a_hurry() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view())
        await settle(lambda: edges.told)
        foreign = msgspec.json.decode(msgspec.json.encode(edges.statuses[0]))
        foreign["conditions"][0]["message"] = "all is well"
        reconciler.observe(view(status=foreign))
        reconciler.observe(view(status={}))
        await settle(lambda: len(edges.statuses) == 2)
        # Not when: with the old status gone, the second may be another.
        first, second = (
            [(one["type"], one["status"], one["reason"], one["message"]) for one in status["conditions"]]
            for status in edges.statuses
        )
        assert second == first
        assert edges.calls == ["apply 0"]

    run(test, numbers_seconds=0.05)


def test_a_write_that_was_dropped_is_made_when_the_object_is_seen_again() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view())
        await settle(lambda: edges.told)
        edges.on_write = lambda status: Written.DROPPED
        edges.stands(Reason.CRASH_LOOPING)
        await settle(lambda: len(edges.told) == 2)
        edges.on_write = lambda status: Written.DONE
        edges.callback("p")
        await settle(lambda: len(edges.told) == 3)
        assert edges.told[1:] == [("CrashLooping", 1)] * 2

    run(test)


def test_two_operators_do_not_answer_each_other() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.observe(view())
        await settle(lambda: edges.told)
        foreign = msgspec.json.decode(msgspec.json.encode(edges.statuses[0]))
        foreign["conditions"][0]["message"] = "all is well"
        for _ in range(5):
            reconciler.observe(view(status=foreign))
            reconciler.observe(view(status=edges.statuses[0]))
            await asyncio.sleep(0.01)
        await quiet(edges, reconciler)
        assert [reason for reason, _ in edges.told] == ["Running", "CrashLooping"]

    run(test)


def test_where_another_operator_writes_the_status_the_plugin_runs_and_nothing_is_told() -> None:
    async def test(edges: Edges, reconciler: PluginReconciler) -> None:
        reconciler.tells = False
        reconciler.observe(view())
        await settle(lambda: not reconciler.under_way)
        # As the watch shows it when the other one has told of it, and when it changes.
        reconciler.observe(view(status={"observedGeneration": 1}))
        edges.stands(Reason.CRASH_LOOPING)
        reconciler.observe(view(2, enabled=False))
        await settle(lambda: not reconciler.under_way)
        reconciler.gone(view(2))
        await settle(lambda: not reconciler.under_way)
        assert [call for call in edges.calls if call != "disable"][-2:] == ["remove", "forget"]
        assert "apply 0" in edges.calls
        assert "disable" in edges.calls
        running = [task.get_name() for task in asyncio.all_tasks()]
        assert not [name for name in running if name.startswith("tell")]
        assert not edges.statuses
        assert not edges.events

    run(test)
