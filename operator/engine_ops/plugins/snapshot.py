"""How a plugin stands at one moment: what its status is made of."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Final, Literal

from engine_ops.api.reasons import Reason
from engine_ops.plugins.instance import LastError

UNSCORED: Final = "Unscored"
"""The model was asked, and says nothing that an outcome could be held against."""

UNPROVEN: Final = "Unproven"
"""There is a model, and no outcome of its predictions yet."""

SkillWord = Literal["Unscored", "Unproven"]


@dataclasses.dataclass(frozen=True, slots=True)
class ModelInfo:
    """A trained model.

    Parameters
    ----------
    id
        As the plugin calls it.
    digest
        ``sha256:...``, of its state.
    trained_at
        UTC.
    samples
        Points of history it was trained on.
    """

    id: str
    digest: str
    trained_at: datetime.datetime
    samples: int


@dataclasses.dataclass(frozen=True, slots=True)
class CandidateInfo:
    """A newer model in shadow.

    Parameters
    ----------
    model
        The model.
    outcomes
        How many of its predictions were scored.
    message
        How it does beside the others, for people; see `engine_ops.plugins.promotion.Decision`.
    """

    model: ModelInfo
    outcomes: int
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """What came of asking the plugin since the operator started. Replies in shadow are not among them.

    Each request is counted once, when it is known what came of it: ``requests`` is the sum of the four after it.

    Parameters
    ----------
    requests
        Requests that came to it, whether or not it was asked in the end.
    answers
        Replies with a result.
    failures
        Errors, time-outs, crashes, and replies that turned out to be of no use.
    declined
        Replies without a result, in good order.
    left_out
        Requests that it was not asked, or not waited for: it is starting, in shadow, being trained, busy, or left out
        after failures in a row; or the request had no time left.
    fallbacks
        Of the requests, those that another plugin or the built-in algorithm answered.
    """

    requests: int = 0
    answers: int = 0
    failures: int = 0
    declined: int = 0
    left_out: int = 0
    fallbacks: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingRuns:
    """The trainings of a plugin that have ended since the operator started, cancelled ones left out.

    Parameters
    ----------
    trained, failed
        How many brought a model, and how many did not.
    seconds
        How long all of them took together, on the clock.
    """

    trained: int = 0
    failed: int = 0
    seconds: float = 0.0

    def and_one(self, seconds: float, *, failed: bool) -> TrainingRuns:
        """Return the numbers with one more."""
        return TrainingRuns(self.trained + (not failed), self.failed + failed, self.seconds + seconds)


@dataclasses.dataclass(frozen=True, slots=True)
class PluginSnapshot:
    """How a plugin stands.

    Parameters
    ----------
    name
        Of the OptimizerPlugin.
    enabled
        Whether its spec says so.
    state
        The reason of the condition Ready: `Reason.RUNNING` alone stands for ready; else `Reason.DISABLED`,
        `Reason.STARTING`, `Reason.UPDATING`, `Reason.INVALID_CONFIG`, `Reason.LOAD_FAILED`,
        `Reason.PLUGIN_UNAVAILABLE` or `Reason.CRASH_LOOPING`.
    message
        One sentence for it.
    is_behind
        Whether what answers, its model and all that is said of them, is not what the spec asks for by now: that is
        being made ready, or could not be. Also where nothing answers yet.
    faults
        Path (``config.scale``) and message of each fault of the settings, for `Reason.INVALID_CONFIG`.
    trained
        The reason and the message of the condition Trained: `Reason.TRAINED`, `Reason.SHADOW`,
        `Reason.NOT_ENOUGH_DATA`, `Reason.TRAINING`, `Reason.TRAINING_FAILED` or `Reason.NO_MODEL`; None before the
        plugin was opened.
    is_trained
        The status of that condition.
    degraded
        Why it is left out for the time being; None where it is not.
    version, description, types, config_schema
        What the plugin says of itself; empty before it was opened.
    model
        The model that answers; None where none does.
    candidate
        A newer model in shadow.
    skill
        Of the model that answers, else of the candidate: at most 1, three decimals; None without a model.
    skill_key
        What the skill is for, such as ``expected_duration``; empty without a number.
    outcomes
        Predictions of that model that were scored.
    loss, baseline_loss
        Their mean losses; None without one.
    confidence
        The measured one; None below 30 outcomes.
    claimed_confidence
        The mean of what the plugin itself claimed for its last 100 replies.
    drift
        Whether its loss has grown since it was promoted.
    counts, p50_ms, p99_ms
        What came of asking it, and how long its last answers took; None before the first.
    trainings
        How its trainings ended.
    last_error
        What went wrong last.
    storing
        Why its models could not be kept, for the time being; None where they are.
    """

    name: str
    enabled: bool
    state: Reason
    message: str
    is_behind: bool = False
    faults: tuple[tuple[str, str], ...] = ()
    trained: tuple[Reason, str] | None = None
    is_trained: bool = False
    degraded: str | None = None
    version: str = ""
    description: str = ""
    types: tuple[str, ...] = ()
    config_schema: bytes = b""
    model: ModelInfo | None = None
    candidate: CandidateInfo | None = None
    skill: float | SkillWord | None = None
    skill_key: str = ""
    outcomes: int = 0
    loss: float | None = None
    baseline_loss: float | None = None
    confidence: float | None = None
    claimed_confidence: float | None = None
    drift: bool = False
    counts: Counts = Counts()
    p50_ms: float | None = None
    p99_ms: float | None = None
    trainings: TrainingRuns = TrainingRuns()
    last_error: LastError | None = None
    storing: str | None = None
