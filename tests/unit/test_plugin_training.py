"""When models are trained, which of them is served, and what becomes of them."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from typing import Any

import pytest
from hosted_world import on_a_loop, stage
from scripted_instances import digest_of, settled, spec_of

from engine_ops.api.optimizerplugin import PluginTraining
from engine_ops.api.reasons import Reason
from engine_ops.controllers.plugin_status import status_of
from engine_ops.plugins.instance import PluginBrokenError
from engine_ops.plugins.model_store import MemoryModelStore
from engine_ops.plugins.training import (
    RETRY_SECONDS,
    UNAVAILABLE_SECONDS,
    Candidate,
    Standing,
    is_ever_gated,
    is_gated,
    reason_to_train,
)

HOUR = 3600.0
DAY = 24 * HOUR


def why(standing: Standing, **training: Any) -> str | None:
    return reason_to_train(PluginTraining.model_validate(training), standing)


def test_the_first_training_waits_for_enough_points() -> None:
    assert why(Standing(points=9)) is None
    assert why(Standing(points=10)) == "there are 10 points"
    assert why(Standing(points=10), minSamples=11) is None
    assert why(Standing(points=10), pinnedModel="sha256:0123456789ab") is None


def test_without_a_policy_a_model_that_does_well_is_not_trained_again() -> None:
    served = Standing(points=9000, points_since=8000, samples=1000, age_seconds=400 * DAY, is_served=True)
    assert why(served) is None
    assert why(served, retrain={"afterSamples": 8001}) is None
    assert why(served, retrain={"afterSamples": 8000}) == "8000 outcomes have come since the last training"
    assert why(served, retrain={"intervalSeconds": 3600}) is not None


def test_drift_trains_again_unless_that_is_off_or_there_is_nothing_new() -> None:
    drifted = {"points": 9000, "samples": 1000, "is_served": True, "has_drifted": True}
    assert why(Standing(**drifted, points_since=10)) is not None
    assert why(Standing(**drifted, points_since=9)) is None
    assert why(Standing(**drifted, points_since=10), retrain={"onDrift": False}) is None


@pytest.mark.parametrize(
    ("candidate", "is_served", "trained"),
    [
        (Candidate(outcomes=119, replies=500, age_seconds=HOUR), True, False),
        (Candidate(outcomes=120, replies=500, age_seconds=HOUR), True, True),
        (Candidate(outcomes=0, replies=0, age_seconds=DAY), True, True),
        (Candidate(outcomes=0, replies=0, age_seconds=HOUR), True, False),
        (Candidate(outcomes=29, replies=500, age_seconds=HOUR), False, False),
        (Candidate(outcomes=30, replies=500, age_seconds=HOUR), False, True),
        (Candidate(outcomes=0, replies=0, age_seconds=HOUR), False, True),
    ],
)
def test_a_candidate_on_trial_is_not_replaced(candidate: Candidate, is_served: bool, trained: bool) -> None:
    standing = Standing(points=500, points_since=50, samples=400, is_served=is_served, candidate=candidate)
    assert (why(standing, retrain={"afterSamples": 50}) is not None) is trained


def test_a_model_that_does_not_prove_itself_is_replaced_when_the_history_has_doubled() -> None:
    failed = Candidate(outcomes=60, replies=100, age_seconds=HOUR)
    assert why(Standing(points=99, points_since=49, samples=50, candidate=failed)) is None
    assert why(Standing(points=100, points_since=50, samples=50, candidate=failed)) is not None
    assert why(Standing(points=100, points_since=50, samples=50, candidate=failed), retrain={"onDrift": False}) is None
    assert why(Standing(points=100, points_since=50, samples=50, candidate=failed, is_served=True)) is None


def test_outcomes_that_come_quickly_do_not_keep_a_long_training_going() -> None:
    served = {"points": 50_000, "points_since": 1000, "samples": 40_000, "is_served": True, "took_seconds": 10.0}
    policy = {"afterSamples": 25}
    assert why(Standing(**served, age_seconds=39.0), retrain=policy) is None
    assert why(Standing(**served, age_seconds=40.0), retrain=policy) is not None
    assert why(Standing(**served, age_seconds=39.0, has_drifted=True), retrain=policy) is not None


@on_a_loop
async def test_after_a_long_training_new_outcomes_wait() -> None:
    async with stage() as on:
        await on.apply(training={"gate": "none", "retrain": {"afterSamples": 1, "onDrift": False}})
        on.world.hold_trainings = asyncio.Event()
        await on.train()
        await on.clock.pass_by(60)
        on.world.hold_trainings.set()
        await settled()
        assert on.world.trained_count == 1
        await on.outcome(5000)
        await on.clock.pass_by(200)
        assert on.world.trained_count == 1
        await on.clock.pass_by(60)
        assert on.world.trained_count == 2, "they are not forgotten"


@on_a_loop
async def test_outcomes_that_a_training_was_to_learn_from_are_not_forgotten_when_it_is_given_up() -> None:
    async with stage() as on:
        policy = {"gate": "none", "retrain": {"afterSamples": 3}}
        await on.apply(training=policy)
        await on.train()
        on.world.hold_trainings = asyncio.Event()
        for _ in range(3):
            await on.outcome(5000)
        assert on.world.training_now == 1
        await on.apply(training={**policy, "pinnedModel": digest_of("model-1")[:19]})
        assert on.world.training_now == 0
        await on.apply(training=policy)
        assert on.world.training_now == 1


def test_a_failed_training_is_tried_again_after_new_points_or_a_while() -> None:
    assert why(Standing(points=50, failed_seconds=599, points_since_failure=9)) is None
    assert why(Standing(points=50, failed_seconds=1, points_since_failure=10)) is not None
    assert why(Standing(points=50, failed_seconds=600)) is not None


def test_gates() -> None:
    spec = spec_of()
    assert is_gated(spec, "resource")
    assert not is_gated(spec, "ml-driven")
    assert not is_gated(spec, "resource", needs_prediction=True)
    proven = spec_of(training={"gate": "proven"})
    assert is_gated(proven, "ml-driven")
    assert is_gated(proven, "resource", needs_prediction=True)
    assert not is_gated(spec_of(training={"gate": "none"}), "resource")
    service = {"source": {"service": {"name": "a", "namespace": "b"}}}
    assert not is_gated(spec_of(**service), "resource")
    assert is_gated(spec_of(**service, training={"gate": "proven"}), "resource")
    assert is_ever_gated(spec, ("ml-driven", "resource"))
    assert not is_ever_gated(spec, ("ml-driven",))
    assert not is_ever_gated(spec_of(supportedTypes=["ml-driven"]), ("ml-driven", "resource"))


@on_a_loop
async def test_before_there_are_enough_points_the_plugin_says_no_itself() -> None:
    async with stage(points=3) as on:
        await on.apply()
        on.world.says_no = "Not enough data"
        said = await on.ask()
        lacking = "the history has 3 of the 10 points that training needs"
        assert (said.no, said.waiting) == (f"Not enough data ({lacking})", Reason.NOT_ENOUGH_DATA)
        assert not said.fault
        assert on.snapshot.trained == (
            Reason.NOT_ENOUGH_DATA,
            "the history has 3 of the 10 points that training needs",
        )
        assert on.snapshot.skill is None


@on_a_loop
async def test_it_is_not_asked_while_its_first_model_is_trained() -> None:
    async with stage() as on:
        await on.apply()
        on.world.hold_trainings = asyncio.Event()
        await on.train()
        assert on.snapshot.trained == (Reason.TRAINING, "a model is being trained on 10 points of history")
        said = await on.ask()
        assert (said.envelope, said.no, said.waiting) == (None, "it is being trained", Reason.TRAINING)
        assert [instance.asks for instance in on.world.instances] == [[], []]
        on.world.hold_trainings.set()
        await settled()
        assert on.snapshot.is_trained


@on_a_loop
async def test_nothing_is_trained_without_a_history_or_a_model_or_when_off() -> None:
    async with stage(history=False) as on:
        await on.apply()
        await on.clock.pass_by(100)
        assert on.snapshot.trained == (Reason.NOT_ENOUGH_DATA, "no history is kept that it could learn from")
        assert (await on.ask()).envelope is not None
    async with stage(points=50) as on:
        on.world.has_model = False
        await on.apply()
        await on.clock.pass_by(100)
        assert on.snapshot.trained == (Reason.NO_MODEL, "the plugin has nothing to train")
        assert (await on.ask()).envelope is not None
    async with stage() as on:
        await on.apply()
        await on.apply(enabled=False)
        await on.train()
        assert on.world.trained_count == 0


@on_a_loop
async def test_a_model_is_proven_in_shadow_and_then_served() -> None:
    async with stage() as on:
        await on.apply()
        await on.train()
        assert on.snapshot.trained is not None
        assert (on.snapshot.trained[0], on.snapshot.model, on.snapshot.skill) == (Reason.SHADOW, None, "Unproven")
        await on.outcome(6250)
        await on.requests(29)
        said = await on.ask()
        assert (said.envelope, said.shadow) == (None, True)
        assert said.no == "its model is in shadow: 29 of 30 outcomes since its training"
        candidate = on.snapshot.candidate
        assert candidate is not None
        assert (candidate.model.digest, candidate.model.samples, candidate.outcomes) == (digest_of("model-1"), 10, 29)
        await on.outcome(6250)
        said = await on.ask()
        assert said.envelope is not None
        assert b"model-1" in said.envelope
        assert said.confidence == 1.0
        snapshot = on.snapshot
        assert snapshot.trained is not None
        assert (snapshot.trained[0], snapshot.candidate, snapshot.skill_key) == (
            Reason.TRAINED,
            None,
            "expected_duration",
        )
        assert snapshot.model is not None
        assert isinstance(snapshot.skill, float)
        assert snapshot.skill > 0
        assert snapshot.loss is not None
        assert snapshot.baseline_loss is not None
        assert snapshot.loss < snapshot.baseline_loss


@on_a_loop
async def test_a_bad_model_is_never_served_where_a_built_in_answers() -> None:
    async with stage() as on:
        on.world.prediction = {"expected_duration": 90_000.0}
        await on.apply(training={"retrain": {"onDrift": False}})
        await on.train()
        await on.requests(130)
        assert on.snapshot.model is None
        assert on.snapshot.candidate is not None
        assert "not better than the baseline" in on.snapshot.candidate.message
        assert on.snapshot.counts.answers == 0
        assert isinstance(on.snapshot.skill, float)
        assert on.snapshot.skill < 0


@on_a_loop
async def test_a_model_that_got_worse_than_the_baseline_goes_back_to_shadow() -> None:
    async with stage() as on:
        await on.apply(training={"retrain": {"onDrift": False}})
        await on.train()
        await on.requests(35)
        assert on.snapshot.model is not None
        for _ in range(70):
            await on.requests(1, around=100_000.0)
            if on.snapshot.model is None:
                break
        assert on.snapshot.model is None
        assert on.snapshot.candidate is not None
        assert "since its demotion" in on.snapshot.candidate.message
        assert (await on.ask()).shadow
        await on.outcome(5000)
        await on.requests(65)
        assert on.snapshot.model is not None, "it can prove itself again"


@on_a_loop
async def test_a_drifting_model_is_trained_again_and_compared_with_its_successor() -> None:
    async with stage() as on:
        await on.apply()
        await on.train()
        await on.requests(35)
        first = on.snapshot.model
        assert first is not None
        # Worse than before, yet still better than the baseline.
        on.world.predictions["model-1"] = {"expected_duration": 7500.0}
        await on.requests(60)
        assert on.snapshot.drift
        assert on.world.trained_count == 2
        candidate = on.snapshot.candidate
        assert candidate is not None
        assert on.snapshot.model == first
        for index in range(70):
            said = await on.ask()
            assert said.envelope is not None, "there is always one that serves"
            await on.outcome(5000.0 * (0.8, 1.25)[index % 2])
        assert on.snapshot.model is not None
        assert on.snapshot.model.digest == digest_of("model-2")
        assert not on.snapshot.drift
        assert len(on.world.alive) == 1


@on_a_loop
async def test_for_ml_driven_a_model_is_served_at_once() -> None:
    async with stage() as on:
        await on.apply(supportedTypes=["ml-driven"], training={"retrain": {"afterSamples": 5}})
        await on.train()
        assert on.snapshot.model is not None
        assert on.snapshot.skill == "Unproven"
        assert b"model-1" in ((await on.ask("ml-driven")).envelope or b"")
        for _ in range(5):
            await on.outcome(5000)
        assert b"model-2" in ((await on.ask("ml-driven")).envelope or b"")
        assert len(on.world.alive) == 1


@on_a_loop
async def test_a_request_that_nothing_else_can_answer_is_answered_by_the_candidate() -> None:
    async with stage() as on:
        await on.apply()
        await on.train()
        assert (await on.ask("ml-driven")).envelope is not None
        assert (await on.ask("resource", needs_prediction=True)).envelope is not None
        assert (await on.ask("resource")).envelope is None
        await on.apply(training={"gate": "proven"})
        assert (await on.ask("ml-driven")).envelope is None
        assert (await on.ask("resource", needs_prediction=True)).envelope is None
        await on.apply(training={"gate": "none"})
        assert (await on.ask("resource")).envelope is not None
        assert on.world.trained_count == 1


@on_a_loop
async def test_a_model_that_cannot_be_scored_is_served_after_five_replies() -> None:
    async with stage() as on:
        on.world.prediction = {}
        await on.apply()
        await on.train()
        for _ in range(5):
            assert (await on.ask()).shadow
        assert (await on.ask()).envelope is not None
        assert on.snapshot.skill == "Unscored"


@on_a_loop
async def test_a_failed_training_is_told_and_tried_again() -> None:
    async with stage() as on:
        on.world.broken["train"] = PluginBrokenError("train", "no model within 120 s (training.timeoutSeconds)")
        await on.apply()
        await on.train()
        assert on.snapshot.trained == (Reason.TRAINING_FAILED, "no model within 120 s (training.timeoutSeconds)")
        assert not on.snapshot.is_trained
        said = await on.ask()
        assert (said.no, said.fault) == ("its training failed: no model within 120 s (training.timeoutSeconds)", False)
        made = len(on.world.instances)
        assert len(on.world.alive) == 1
        for _ in range(9):
            await on.outcome(5000)
        assert len(on.world.instances) == made
        await on.outcome(5000)
        assert len(on.world.instances) == made + 1
        del on.world.broken["train"]
        await on.clock.pass_by(599)
        assert on.world.trained_count == 0
        await on.clock.pass_by(11)
        assert on.snapshot.is_trained


@on_a_loop
async def test_one_model_is_trained_at_a_time() -> None:
    async with stage(points=50) as on:
        on.world.hold_trainings = asyncio.Event()
        for name in "abcde":
            await on.apply(name)
        await settled()
        assert on.world.training_now == 1
        on.world.hold_trainings.set()
        await settled()
        await settled()
        assert (on.world.trained_count, on.world.most_at_once) == (5, 1)


@on_a_loop
async def test_a_training_of_other_settings_is_given_up() -> None:
    async with stage(points=50) as on:
        on.world.hold_trainings = asyncio.Event()
        await on.apply(config={"scale": 1})
        await on.apply(config={"scale": 2})
        assert on.world.training_now == 1
        on.world.hold_trainings.set()
        await settled()
        assert on.world.trained_count == 1
        assert [instance.spec.config for instance in on.world.alive] == [{"scale": 2}]


@on_a_loop
async def test_a_model_is_not_taken_over_by_other_settings_and_comes_back_with_its_own() -> None:
    async with stage() as on:
        await on.apply(config={"scale": 1})
        await on.train()
        await on.requests(35)
        proven = on.snapshot.model
        assert proven is not None
        on.world.rejected_configs = [{"scale": "typo"}]
        await on.apply(config={"scale": "typo"})
        assert on.snapshot.state is Reason.INVALID_CONFIG
        await on.apply(config={"scale": 1})
        assert on.snapshot.model == proven
        assert on.world.trained_count == 1
        await on.apply(config={"scale": 2})
        assert on.snapshot.model is None
        assert on.world.trained_count == 2


@on_a_loop
async def test_a_change_of_limits_keeps_the_model() -> None:
    async with stage() as on:
        await on.apply()
        await on.train()
        await on.requests(35)
        await on.apply(limits={"memory": "1Gi"})
        assert on.snapshot.model is not None
        (alive,) = on.world.alive
        assert (alive.model, alive.spec.limits.memory) == ("model-1", "1Gi")


@on_a_loop
async def test_a_model_without_a_saved_form_lives_as_long_as_its_process() -> None:
    async with stage() as on:
        on.world.saves = False
        await on.apply(training={"gate": "none"})
        await on.train()
        assert (await on.ask()).envelope is not None
        on.world.hold_trainings = asyncio.Event()
        on.world.alive[-1].crash()
        said = await on.ask()
        assert (said.envelope, said.waiting) == (None, Reason.TRAINING)
        await settled()
        assert on.world.training_now == 1
        on.world.hold_trainings.set()
        await settled()
        assert (await on.ask()).envelope is not None


@on_a_loop
async def test_a_model_with_a_saved_form_survives_its_process() -> None:
    async with stage() as on:
        await on.apply(training={"gate": "none"})
        await on.train()
        on.world.alive[-1].crash()
        assert b"model-1" in ((await on.ask()).envelope or b"")
        assert on.world.trained_count == 1


@on_a_loop
async def test_a_pinned_model_is_served_and_nothing_trained() -> None:
    async with stage() as on:
        policy = {"gate": "none", "retrain": {"afterSamples": 1}}
        await on.apply(training=policy)
        await on.train()
        pin = status_of(on.snapshot, {}, 1, datetime.datetime.now(datetime.UTC))["model"]["digest"]
        assert pin == digest_of("model-1")[:19]
        await on.outcome(5000)
        assert on.world.trained_count == 2
        await on.apply(training={**policy, "pinnedModel": pin})
        assert b"model-1" in ((await on.ask()).envelope or b"")
        assert on.snapshot.trained is not None
        assert "pinned" in on.snapshot.trained[1]
        await on.outcome(5000)
        await on.clock.pass_by(HOUR)
        assert on.world.trained_count == 2
        assert len(on.world.alive) == 1
        await on.apply(training={"gate": "none"})
        assert b"model-2" in ((await on.ask()).envelope or b"")
        await on.apply(training={"gate": "none", "pinnedModel": "sha256:000000000000"})
        assert b"model-2" in ((await on.ask()).envelope or b"")
        assert on.snapshot.trained is not None
        assert "sha256:000000000000 is not kept" in on.snapshot.trained[1]


@on_a_loop
async def test_models_and_skill_survive_a_restart() -> None:
    store = MemoryModelStore()
    async with stage(store=store) as on:
        await on.apply()
        await on.train()
        await on.requests(35)
        before = on.snapshot
        assert before.model is not None
    async with stage(store=store, points=45) as on:
        await on.apply()
        assert on.snapshot.model == before.model
        assert (on.snapshot.skill, on.snapshot.outcomes) == (before.skill, before.outcomes)
        assert b"model-1" in ((await on.ask()).envelope or b"")
        assert on.world.trained_count == 0


@on_a_loop
async def test_a_candidate_goes_on_after_a_restart_where_it_was() -> None:
    store = MemoryModelStore()
    async with stage(store=store) as on:
        await on.apply()
        await on.train()
        await on.requests(20)
        pending = await on.ask()
        assert pending.shadow
    async with stage(store=store, points=45) as on:
        await on.apply()
        assert on.snapshot.candidate is not None
        assert on.snapshot.candidate.outcomes == 19
        await on.outcome(5000, key=21)
        assert on.snapshot.candidate is not None
        assert on.snapshot.candidate.outcomes == 20
        assert on.world.trained_count == 0


@on_a_loop
async def test_a_state_that_cannot_be_loaded_is_left_behind() -> None:
    store = MemoryModelStore()
    async with stage(store=store) as on:
        await on.apply(training={"gate": "none"})
        await on.train()
    async with stage(store=store, points=45) as on:
        on.world.broken["load"] = PluginBrokenError("load", "an array is missing")
        await on.apply(training={"gate": "none"})
        assert on.snapshot.state is Reason.RUNNING
        assert on.world.trained_count == 1, "it is trained again"


@on_a_loop
async def test_removing_a_plugin_forgets_its_models() -> None:
    store = MemoryModelStore()
    async with stage(store=store) as on:
        await on.apply(training={"gate": "none"})
        await on.train()
        assert (await store.load("a")).records
        await on.manager.remove("a")
        assert not (await store.load("a")).records


@on_a_loop
async def test_what_a_process_says_that_has_lost_its_model_meanwhile_is_not_served() -> None:
    async with stage() as on:
        on.world.saves = False
        await on.apply(training={"gate": "none"})
        await on.train()
        on.world.hold_asks = asyncio.Event()
        asking = asyncio.create_task(on.ask())
        await settled()
        on.world.alive[-1].crash()
        on.world.hold_trainings = asyncio.Event()
        on.world.hold_asks.set()
        said = await asking
        assert (said.envelope, said.waiting) == (None, Reason.TRAINING)
        on.world.hold_trainings.set()
        await settled()
        on.world.hold_trainings = None
        assert (await on.ask()).envelope is not None


@on_a_loop
async def test_a_service_is_trained_in_place() -> None:
    service = {"source": {"service": {"name": "plugin", "namespace": "plugins"}}}
    async with stage() as on:
        await on.apply(**service, training={"retrain": {"afterSamples": 3}})
        await on.train()
        assert b"model-1" in ((await on.ask()).envelope or b""), "there is no gate unless it is asked for"
        for _ in range(3):
            await on.outcome(5000)
        assert b"model-2" in ((await on.ask()).envelope or b"")
        assert len(on.world.instances) == 1
    async with stage() as on:
        await on.apply(**service, training={"gate": "proven", "retrain": {"afterSamples": 40, "onDrift": False}})
        await on.train()
        assert (await on.ask()).shadow
        await on.requests(32)
        assert on.world.trained_count == 1
        assert on.snapshot.model is not None
        await on.requests(10)
        assert on.world.trained_count == 2
        assert on.snapshot.model is not None
        assert on.snapshot.model.digest == digest_of("model-2"), "it stands where the one before stood"
        assert len(on.world.instances) == 1


@on_a_loop
async def test_until_a_pinned_model_can_be_asked_the_one_before_answers() -> None:
    async with stage() as on:
        await on.apply(training={"gate": "none", "retrain": {"afterSamples": 1}})
        await on.train()
        await on.outcome(5000)
        on.world.hold_starts = asyncio.Event()
        await on.apply(training={"gate": "none", "pinnedModel": digest_of("model-1")})
        assert b"model-2" in ((await on.ask()).envelope or b"")
        assert (on.snapshot.state, on.snapshot.is_behind) == (Reason.UPDATING, True)
        assert on.snapshot.model is not None
        assert on.snapshot.model.digest == digest_of("model-2")
        assert on.snapshot.trained is not None
        assert "another is being made ready" in on.snapshot.trained[1]
        assert "not kept" not in on.snapshot.trained[1]
        on.world.hold_starts.set()
        await settled()
        assert b"model-1" in ((await on.ask()).envelope or b"")
        assert (on.snapshot.state, on.snapshot.is_behind) == (Reason.RUNNING, False)


def test_a_training_that_lost_its_host_is_tried_again_soon() -> None:
    lost = Standing(points=50, failed_seconds=11.0, retry_seconds=UNAVAILABLE_SECONDS)
    assert reason_to_train(PluginTraining(), lost) == "there are 50 points"
    assert reason_to_train(PluginTraining(), dataclasses.replace(lost, failed_seconds=9.0)) is None
    assert reason_to_train(PluginTraining(), dataclasses.replace(lost, retry_seconds=RETRY_SECONDS)) is None
