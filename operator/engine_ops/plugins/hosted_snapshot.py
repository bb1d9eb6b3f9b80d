"""Puts together how a plugin stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from engine_ops.api.optimizerplugin import OptimizerPluginSpec, PluginMode
from engine_ops.api.reasons import Reason
from engine_ops.plugins.instance import Instance
from engine_ops.plugins.lineup import Lineup
from engine_ops.plugins.snapshot import UNPROVEN, UNSCORED, CandidateInfo, Counts, PluginSnapshot
from engine_ops.plugins.trained_model import TrainedModel
from engine_ops.plugins.trainer import Trainer


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Why a plugin is not as its spec wants it.

    Parameters
    ----------
    reason
        `Reason.INVALID_CONFIG`, `Reason.LOAD_FAILED` or `Reason.PLUGIN_UNAVAILABLE`.
    message
        One sentence.
    faults
        See `PluginSnapshot`.
    """

    reason: Reason
    message: str
    faults: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What a snapshot is made of.

    Parameters
    ----------
    name, spec, lineup, trainer
        Of the plugin.
    problem
        What is wrong, if anything is.
    is_current
        Whether what runs is what the spec asks for.
    points
        Of history; None where none is kept.
    standing
        Returns how a candidate does, for people.
    counts, storing
        See `PluginSnapshot`.
    """

    name: str
    spec: OptimizerPluginSpec
    lineup: Lineup
    trainer: Trainer
    problem: Problem | None
    is_current: bool
    points: int | None
    standing: Callable[[TrainedModel], str]
    counts: Counts
    storing: str | None


def snapshot_of(view: View) -> PluginSnapshot:
    """Return how a plugin stands."""
    instance = view.lineup.instance
    opened = instance.opened if instance is not None else None
    state, message = _state(view, instance)
    trained = _trained(view)
    active, candidate = view.lineup.roles
    said: dict[str, Any] = {}
    if opened is not None:
        types = opened.types if view.spec.supported_types is None else tuple(map(str, view.spec.supported_types))
        said = {
            "version": opened.version,
            "description": opened.description,
            "types": types,
            "config_schema": opened.config_schema,
        }
    return PluginSnapshot(
        name=view.name,
        enabled=view.spec.enabled,
        state=state,
        message=message,
        faults=view.problem.faults if view.problem is not None else (),
        trained=trained,
        is_trained=trained is not None and trained[0] in (Reason.TRAINED, Reason.SHADOW),
        degraded=instance.degraded if instance is not None else None,
        model=active.info() if active is not None else None,
        candidate=_candidate(view, candidate) if candidate is not None else None,
        counts=view.counts,
        last_error=instance.last_error if instance is not None else None,
        storing=view.storing,
        **said,
        **_skill(active or candidate),
        **_latency(instance),
    )


def _state(view: View, instance: Instance | None) -> tuple[Reason, str]:
    if not view.spec.enabled:
        return Reason.DISABLED, "spec.enabled is false"
    if view.problem is not None:
        return view.problem.reason, view.problem.message
    if instance is None or instance.opened is None:
        return Reason.STARTING, "it is being started"
    if not view.is_current:
        return Reason.STARTING, "it is being started as the spec has it now; until then it answers as before"
    if instance.degraded is not None:
        return Reason.CRASH_LOOPING, instance.degraded
    shadow = "it is asked in shadow, by spec.mode: nothing that it says is served"
    return Reason.RUNNING, shadow if view.spec.mode is PluginMode.SHADOW else "it can be asked"


def _trained(view: View) -> tuple[Reason, str] | None:
    instance = view.lineup.instance
    opened = instance.opened if instance is not None else None
    if opened is None:
        return None
    if not opened.has_model:
        return Reason.NO_MODEL, "the plugin has nothing to train"
    active, candidate = view.lineup.roles
    if active is not None:
        return Reason.TRAINED, "; ".join([_served(view, active), *_afterwards(view)])
    if candidate is not None:
        return Reason.SHADOW, "; ".join(
            [f"asked and scored, not served yet: {view.standing(candidate)}", *_afterwards(view)]
        )
    return _untrained(view, view.spec.training.min_samples)


def _untrained(view: View, wanted: int) -> tuple[Reason, str]:
    if view.trainer.is_busy:
        return Reason.TRAINING, f"a model is being trained on {view.points} points of history"
    if view.trainer.failure is not None:
        return Reason.TRAINING_FAILED, view.trainer.failure
    if view.points is None:
        return Reason.NOT_ENOUGH_DATA, "no history is kept that it could learn from"
    if view.points < wanted:
        return Reason.NOT_ENOUGH_DATA, f"the history has {view.points} of the {wanted} points that training needs"
    return Reason.TRAINING, "a model will be trained"


def _served(view: View, active: TrainedModel) -> str:
    trained_on = f"trained on {active.record.samples} points"
    pinned = view.spec.training.pinned_model
    if pinned is not None and active.digest.startswith(pinned):
        return f"{trained_on}, pinned by spec.training.pinnedModel"
    if active.passed == "proven":
        return f"{trained_on}, promoted after it had been better on later outcomes"
    if active.passed == "unscored":
        return f"{trained_on}; no outcome says how good it is"
    return f"{trained_on}, served without proof"


def _afterwards(view: View) -> list[str]:
    told = []
    pinned = view.spec.training.pinned_model
    model = view.lineup.roles.active or view.lineup.roles.candidate
    if pinned is not None and model is not None and not model.digest.startswith(pinned):
        kept = ", ".join(each.digest[:19] for each in view.lineup.shelf if each.state) or "none"
        told.append(f"spec.training.pinnedModel {pinned} is not kept with these settings; kept are {kept}")
    if view.trainer.is_busy:
        told.append("another is being trained")
    elif view.trainer.failure is not None:
        told.append(f"the last training failed: {view.trainer.failure}")
    return told


def _candidate(view: View, candidate: TrainedModel) -> CandidateInfo:
    return CandidateInfo(candidate.info(), candidate.tracker.total, view.standing(candidate))


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
