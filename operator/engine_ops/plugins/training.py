"""When a plugin's model is trained, and what it must pass to be served."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final

from engine_ops.api.optimizationrequest import RequestType
from engine_ops.api.optimizerplugin import OptimizerPluginSpec, PluginTraining, TrainingGate

SETTLED_OUTCOMES: Final = 120
"""A candidate with so many scored outcomes has had its chance beside a model that is served."""

FIRST_LOOK: Final = 30
"""So has one without such a model, if it has not passed with these."""

SETTLED_SECONDS: Final = 24 * 3600.0
"""And so has any that is this old."""

REST: Final = 4.0
"""After a training, new outcomes bring no other one for so many times as long as it took. The model of a long history
would else be trained without a pause where outcomes come quickly, on a processor that requests need."""

UNAVAILABLE_SECONDS: Final = 10.0
"""After a training that lost its host or service is the next one tried."""
RETRY_SECONDS: Final = 600.0
"""After a failed training, unless as many new points came as the first training needs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A model in shadow.

    Parameters
    ----------
    outcomes
        Of its predictions, scored.
    replies
        How often it was asked.
    age_seconds
        Since its training.
    """

    outcomes: int
    replies: int
    age_seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """How training stands.

    Parameters
    ----------
    points
        Of history.
    points_since
        Outcomes that became known since the last training began.
    samples
        Points that the newest model was trained on; None where there is no model.
    age_seconds
        Since its training.
    took_seconds
        How long the last training took; 0 where there was none since the operator started.
    is_served
        Whether any model is served behind its gate.
    has_drifted
        Whether the loss of the one that is served has grown.
    candidate
        The model in shadow.
    failed_seconds
        Since the last training failed; None where it did not.
    retry_seconds
        So long after it the next one may be tried.
    points_since_failure
        Outcomes since then.
    """

    points: int
    points_since: int = 0
    samples: int | None = None
    age_seconds: float = 0.0
    took_seconds: float = 0.0
    is_served: bool = False
    has_drifted: bool = False
    candidate: Candidate | None = None
    failed_seconds: float | None = None
    retry_seconds: float = RETRY_SECONDS
    points_since_failure: int = 0


def reason_to_train(training: PluginTraining, standing: Standing) -> str | None:
    """Return why a model is to be trained now, for people; None where none is.

    The first is trained from ``minSamples`` on. Later ones are by the retrain policy, but not while a candidate is
    still on trial: whoever is replaced before 30 outcomes are known is never promoted. With ``onDrift``, a plugin whose
    model did not prove itself is trained again once the history is twice as long.

    Parameters
    ----------
    training
        The policy.
    standing
        How things stand.
    """
    if training.pinned_model is not None or standing.points < training.min_samples:
        return None
    if standing.failed_seconds is not None and not (
        standing.failed_seconds >= standing.retry_seconds or standing.points_since_failure >= training.min_samples
    ):
        return None
    if standing.samples is None:
        return f"there are {standing.points} points"
    return _reason_to_retrain(training, standing, standing.samples)


def _reason_to_retrain(training: PluginTraining, standing: Standing, samples: int) -> str | None:
    policy = training.retrain
    if standing.candidate is not None and _is_on_trial(standing.candidate, standing.is_served):
        return None
    rested = standing.age_seconds >= REST * standing.took_seconds
    if policy.after_samples is not None and standing.points_since >= policy.after_samples and rested:
        return f"{standing.points_since} outcomes have come since the last training"
    if policy.interval_seconds is not None and standing.age_seconds >= policy.interval_seconds:
        return f"the last training was {standing.age_seconds:.0f} s ago"
    if policy.on_drift and standing.points_since >= training.min_samples:
        if standing.has_drifted:
            return "the loss of the model has grown since it was promoted"
        if standing.candidate is not None and not standing.is_served and standing.points_since >= samples:
            return f"the model has not proved itself, and {standing.points_since} outcomes have come since its training"
    return None


def _is_on_trial(candidate: Candidate, beside_another: bool) -> bool:
    if candidate.age_seconds >= SETTLED_SECONDS:
        return False
    if beside_another:
        return candidate.outcomes < SETTLED_OUTCOMES
    # Without a model that is served there is less to lose, and without a question nothing to wait for.
    return bool(candidate.replies) and candidate.outcomes < FIRST_LOOK


def is_gated(spec: OptimizerPluginSpec, request_type: str, *, needs_prediction: bool = False) -> bool:
    """Return whether a model must have passed to be served for a request.

    Parameters
    ----------
    spec
        Of the plugin.
    request_type
        Of the request.
    needs_prediction
        Whether its data holds nothing that the built-in could solve: nothing else can answer then.
    """
    if spec.training.gate is not None:
        return spec.training.gate is TrainingGate.PROVEN
    if spec.source.service is not None:
        # There is one of it: a new model replaces the old one there, and cannot stand beside it.
        return False
    return request_type != RequestType.ML_DRIVEN and not needs_prediction


def is_ever_gated(spec: OptimizerPluginSpec, types: Iterable[str]) -> bool:
    """Return whether there is a type of request, of those that the plugin takes, for which a model must have passed."""
    asked_for = types if spec.supported_types is None else spec.supported_types
    return any(is_gated(spec, request_type) for request_type in asked_for)
