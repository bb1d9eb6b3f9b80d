"""Puts together how a plugin stands."""

from __future__ import annotations

from typing import Any

from engine_ops.api.optimizerplugin import PluginMode
from engine_ops.api.reasons import Reason
from engine_ops.plugins.instance import Instance
from engine_ops.plugins.plugin_state import PluginState
from engine_ops.plugins.snapshot import UNPROVEN, UNSCORED, CandidateInfo, PluginSnapshot
from engine_ops.plugins.trained_model import TrainedModel


def snapshot_of(state: PluginState) -> PluginSnapshot:
    """Return how a plugin stands."""
    instance = state.lineup.instance
    opened = instance.opened if instance is not None else None
    reason, message = _reason(state, instance)
    trained = _trained(state)
    active, candidate = state.lineup.roles
    said: dict[str, Any] = {}
    if opened is not None:
        types = opened.types if state.spec.supported_types is None else tuple(map(str, state.spec.supported_types))
        said = {
            "version": opened.version,
            "description": opened.description,
            "types": types,
            "config_schema": opened.config_schema,
        }
    return PluginSnapshot(
        name=state.name,
        enabled=state.spec.enabled,
        state=reason,
        message=message,
        is_behind=state.is_behind,
        faults=state.problem.faults if state.problem is not None else (),
        trained=trained,
        is_trained=trained is not None and trained[0] in (Reason.TRAINED, Reason.SHADOW),
        degraded=instance.degraded if instance is not None else None,
        model=active.info() if active is not None else None,
        candidate=_candidate(state, candidate) if candidate is not None else None,
        counts=state.counts,
        trainings=state.trainer.runs,
        last_error=instance.last_error if instance is not None else None,
        storing=state.keeper.problem,
        **said,
        **_skill(active or candidate),
        **_latency(instance),
    )


def _reason(state: PluginState, instance: Instance | None) -> tuple[Reason, str]:
    if not state.spec.enabled:
        return Reason.DISABLED, "it is not enabled"
    if state.problem is not None:
        return state.problem.reason, state.problem.message
    if instance is None or instance.opened is None:
        return Reason.STARTING, "it is being started"
    if instance.unavailable is not None:
        return Reason.PLUGIN_UNAVAILABLE, instance.unavailable
    if instance.degraded is not None:
        return Reason.CRASH_LOOPING, instance.degraded
    return _answering(state)


def _answering(state: PluginState) -> tuple[Reason, str]:
    if state.is_behind:
        return Reason.UPDATING, "it answers as before until what the spec has now is ready"
    if state.spec.mode is PluginMode.SHADOW:
        return Reason.RUNNING, "it is asked in shadow, by its mode: nothing that it says is served"
    return Reason.RUNNING, "it can be asked"


def _trained(state: PluginState) -> tuple[Reason, str] | None:
    instance = state.lineup.instance
    opened = instance.opened if instance is not None else None
    if opened is None:
        return None
    if not opened.has_model:
        return Reason.NO_MODEL, "the plugin has nothing to train"
    active, candidate = state.lineup.roles
    if active is not None:
        return Reason.TRAINED, "; ".join([_served(state, active), *_afterwards(state)])
    if candidate is not None:
        return Reason.SHADOW, "; ".join(
            [f"asked and scored, not served yet: {state.trials.standing(candidate)}", *_afterwards(state)]
        )
    return _untrained(state, state.spec.training.min_samples)


def _untrained(state: PluginState, wanted: int) -> tuple[Reason, str]:
    if state.trainer.is_busy:
        return Reason.TRAINING, f"a model is being trained on {state.points} points of history"
    if state.trainer.failure is not None:
        return Reason.TRAINING_FAILED, state.trainer.failure
    if state.points is None:
        return Reason.NOT_ENOUGH_DATA, "no history is kept that it could learn from"
    if state.points < wanted:
        return Reason.NOT_ENOUGH_DATA, f"the history has {state.points} of the {wanted} points that training needs"
    return Reason.TRAINING, "a model will be trained"


def _served(state: PluginState, active: TrainedModel) -> str:
    trained_on = f"trained on {active.record.samples} points"
    pinned = state.spec.training.pinned_model
    if pinned is not None and active.digest.startswith(pinned):
        return f"{trained_on}, pinned by spec.training.pinnedModel"
    if active.passed == "proven":
        return f"{trained_on}, promoted after it had been better on later outcomes"
    if active.passed == "unscored":
        return f"{trained_on}; no outcome says how good it is"
    return f"{trained_on}, served without proof"


def _afterwards(state: PluginState) -> list[str]:
    told = []
    pinned = state.spec.training.pinned_model
    model = state.lineup.roles.active or state.lineup.roles.candidate
    if state.awaits_model:
        told.append("another is being made ready to be served in its place")
    elif pinned is not None and model is not None and not model.digest.startswith(pinned):
        kept = ", ".join(each.digest[:19] for each in state.lineup.shelf if each.state) or "none"
        told.append(f"spec.training.pinnedModel {pinned} is not kept with these settings; kept are {kept}")
    if state.trainer.is_busy:
        told.append("another is being trained")
    elif state.trainer.failure is not None:
        told.append(f"the last training failed: {state.trainer.failure}")
    return told


def _candidate(state: PluginState, candidate: TrainedModel) -> CandidateInfo:
    return CandidateInfo(candidate.info(), candidate.tracker.total, state.trials.standing(candidate))


def _skill(model: TrainedModel | None) -> dict[str, Any]:
    if model is None:
        return {}
    found: dict[str, Any] = {"claimed_confidence": model.claimed_confidence, "outcomes": model.tracker.total}
    skill = model.skill
    if skill is None:
        return {**found, "skill": UNSCORED if model.is_unscored or model.passed == "unscored" else UNPROVEN}
    return {
        **found,
        "skill": round(skill.skill, 3),
        "skill_key": skill.key,
        "outcomes": skill.outcomes,
        "loss": skill.loss,
        "baseline_loss": skill.baseline_loss,
        "confidence": skill.confidence,
        "drift": model.tracker.has_drifted,
    }


def _latency(instance: Instance | None) -> dict[str, Any]:
    if instance is None or not instance.counters.answered:
        return {}
    latency = instance.latency
    return {"p50_ms": latency.p50_ms, "p99_ms": latency.p99_ms}
