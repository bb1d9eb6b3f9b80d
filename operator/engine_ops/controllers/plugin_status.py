"""The status of an OptimizerPlugin, made of what is known of the plugin.

How others read it: kstatus, and with it Flux, takes Reconciling=True for in progress and Stalled=True for failed, and
where neither is there goes by Ready: False is in progress, for ever. So a plugin that its owner has disabled is
Ready=True with reason Disabled: it is as its owner wants it. One that waits for history is Ready as well: it can be
asked, and when there will be history is nothing that a roll-out can wait for; Trained=False says so. One whose code,
settings, limits or pinned model have changed is not Ready while it answers as before: Ready is of the generation that
it names. So is Trained, for whoever waits for the model of a new spec: it names the generation before until then.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from engine_ops.api.conditions import READY, RECONCILING, STALLED, Wanted, conditions_of, cut, find, timestamp
from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.api.reasons import Reason
from engine_ops.plugins.snapshot import Counts, ModelInfo, PluginSnapshot

Status = dict[str, Any]

TRAINED: Final = "Trained"
DEGRADED: Final = "Degraded"

MAX_WORD: Final = 256
MAX_TEXT: Final = 1024
MAX_LAST_ERROR: Final = 4096
MAX_TYPES: Final = 16
SHOWN_DIGEST: Final = len("sha256:") + 12
"""Of a digest: as much as names one of three models beyond doubt, and as ``training.pinnedModel`` takes."""
MAX_SCHEMA_BYTES: Final = 64 * 1024
"""A longer JSON schema of the settings is left out: every list of plugins would carry it."""
MAX_LOSS: Final = 2.0**53
"""The API server takes no larger measure."""

_READY_REASONS: Final = frozenset({Reason.RUNNING, Reason.DISABLED})
_STALLED_REASONS: Final = frozenset({Reason.INVALID_SPEC, Reason.INVALID_CONFIG})
_MODEL_UNSEEN: Final = frozenset({Reason.DISABLED, Reason.STARTING, Reason.PLUGIN_UNAVAILABLE})
_OF_MODELS: Final = ("model", "candidate")
_SELDOM: Final = ("observedGeneration", "version", "description", "types", "configSchema", "model")
"""Fields that change seldom and are told at once, as the conditions are."""


def status_of(snapshot: PluginSnapshot, previous: Mapping[str, Any], generation: int, now: datetime.datetime) -> Status:
    """Return the whole status of a plugin.

    Parameters
    ----------
    snapshot
        How the plugin stands.
    previous
        The status before; `lastTransitionTime` is taken from there.
    generation
        Of the object whose spec the plugin runs with; -1 before there is one.
    now
        UTC.
    """
    conditions = conditions_of(_conditions(snapshot), previous, max(0, generation), now)
    trained = find(previous, TRAINED)
    kept: Status = {}
    if snapshot.trained is not None:
        of = generation
        if snapshot.is_behind:  # the model is of the spec before
            before = trained.get("observedGeneration") if trained is not None else None
            of = min(generation, generation - 1 if before is None else before)
        conditions += conditions_of([_trained(snapshot, *snapshot.trained)], previous, max(0, of), now)
    elif trained is not None and snapshot.state in _MODEL_UNSEEN:
        conditions.append(dict(trained))  # the model is kept, and nothing else is known of it now
        kept = {field: previous[field] for field in _OF_MODELS if field in previous}
    status: Status = {
        "observedGeneration": generation,
        "conditions": conditions,
        "version": cut(snapshot.version, MAX_WORD) or None,
        "description": cut(snapshot.description, MAX_TEXT) or None,
        "types": [cut(type_, MAX_WORD) for type_ in snapshot.types[:MAX_TYPES]] or None,
        "configSchema": _schema(snapshot.config_schema),
        "model": _model(snapshot.model),
        "candidate": _candidate(snapshot),
        "skill": _skill(snapshot.skill),
        "score": _score(snapshot),
        "confidence": _share(snapshot.confidence),
        "claimedConfidence": _share(snapshot.claimed_confidence),
        "counts": counts_of(snapshot.counts),
        "latency": _latency(snapshot),
        "lastError": _last_error(snapshot),
    }
    return kept | {field: value for field, value in status.items() if value is not None}


def counts_of(counts: Counts) -> dict[str, int]:
    """Return the counts as the status has them."""
    return {
        "requests": counts.requests,
        "answers": counts.answers,
        "failures": counts.failures,
        "declined": counts.declined,
        "leftOut": counts.left_out,
        "fallbacks": counts.fallbacks,
    }


def invalid(error: InvalidDataError, previous: Mapping[str, Any], generation: int, now: datetime.datetime) -> Status:
    """Return the status of a plugin whose spec is wrong. Parameters are as of `status_of`."""
    wanted = [(type_, so, Reason.INVALID_SPEC, error.summary()) for type_, so in ((READY, False), (STALLED, True))]
    return {"observedGeneration": generation, "conditions": conditions_of(wanted, previous, generation, now)}


def at_once(status: Mapping[str, Any]) -> Any:
    """Return what of a status must be told without delay, for comparing: no times, no numbers that grow."""
    conditions = [
        tuple(condition.get(field) for field in ("type", "status", "reason", "message", "observedGeneration"))
        for condition in status.get("conditions") or ()
    ]
    candidate = (status.get("candidate") or {}).get("digest")
    return conditions, [status.get(field) for field in _SELDOM], candidate


def _conditions(snapshot: PluginSnapshot) -> list[Wanted]:
    reason, message = snapshot.state, snapshot.message
    if reason == Reason.INVALID_CONFIG and snapshot.faults:
        message = InvalidDataError([Fault(f"spec.{path}", text) for path, text in snapshot.faults]).summary()
    ready = reason in _READY_REASONS
    wanted: list[Wanted] = [(READY, ready, reason, message)]
    if reason in _STALLED_REASONS:
        wanted.append((STALLED, True, reason, message))
    elif not ready:
        wanted.append((RECONCILING, True, reason, message))  # it is tried again by itself
    if snapshot.degraded is not None:
        wanted.append((DEGRADED, True, Reason.CRASH_LOOPING, snapshot.degraded))
    return wanted


def _trained(snapshot: PluginSnapshot, why: str, text: str) -> Wanted:
    if snapshot.storing is not None:
        text = f"{text}; it will be trained again after a restart: {snapshot.storing}"
    return TRAINED, snapshot.is_trained, why, text


def _schema(encoded: bytes) -> dict[str, Any] | None:
    if not encoded or len(encoded) > MAX_SCHEMA_BYTES:
        return None
    try:
        decoded = msgspec.json.decode(encoded)
    except msgspec.DecodeError:
        return None
    return decoded if isinstance(decoded, dict) else None


def _model(model: ModelInfo | None) -> Status | None:
    if model is None:
        return None
    return {
        "id": cut(model.id, MAX_WORD),
        "trainedAt": timestamp(model.trained_at),
        "samples": model.samples,
        "digest": model.digest[:SHOWN_DIGEST],
    }


def _candidate(snapshot: PluginSnapshot) -> Status | None:
    if snapshot.candidate is None:
        return None
    model = _model(snapshot.candidate.model) or {}
    return {**model, "outcomes": snapshot.candidate.outcomes, "message": cut(snapshot.candidate.message, MAX_TEXT)}


def _skill(skill: float | str | None) -> str | None:
    if skill is None or isinstance(skill, str):
        return skill
    if not math.isfinite(skill):
        return "Unscored"
    return f"{round(skill, 3) + 0.0:.3f}"[:32]  # + 0.0: no "-0.000"


def _score(snapshot: PluginSnapshot) -> Status | None:
    if not snapshot.skill_key:
        return None
    score: Status = {"key": cut(snapshot.skill_key, MAX_WORD), "outcomes": snapshot.outcomes, "drift": snapshot.drift}
    for field, loss in (("loss", snapshot.loss), ("baselineLoss", snapshot.baseline_loss)):
        if loss is not None and 0 <= loss < MAX_LOSS:
            score[field] = round(loss, 4)
    return score


def _share(value: float | None) -> float | None:
    return round(value, 3) if value is not None and 0 <= value <= 1 else None


def _latency(snapshot: PluginSnapshot) -> Status | None:
    known = {"p50Ms": snapshot.p50_ms, "p99Ms": snapshot.p99_ms}
    return {field: min(round(value), 2**31 - 1) for field, value in known.items() if value is not None} or None


def _last_error(snapshot: PluginSnapshot) -> str | None:
    error = snapshot.last_error
    return None if error is None else cut(f"{timestamp(error.at)} {error.message}", MAX_LAST_ERROR)
