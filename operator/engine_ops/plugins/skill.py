"""What is known of how well one model predicts: skill, confidence, drift, and losses for its promotion."""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self

import msgspec

from engine_ops.ml import scoring
from engine_ops.plugins.scored import Kept, Names, Pairs, Scored

SCORED_WINDOW: Final = 3840
"""The newest so many outcomes are kept; as many as a promotion looks at."""

MAX_PENDING: Final = 2000
"""Predictions that wait for their outcome; the oldest are forgotten. The history has half as many points that wait for
theirs; a prediction whose request was given up, or changed, waits for ever."""

SAVED_SCORED: Final = 960
"""The newest so many outcomes are in a saved tracker: as many as the sixth look of a promotion."""

SAVED_PENDING: Final = 1000
"""The newest so many predictions that wait are."""

_FORMAT: Final = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Skill:
    """How well a model predicts one key.

    Parameters
    ----------
    key
        Such as ``expected_duration``.
    outcomes
        How many predictions were scored.
    loss, baseline_loss
        Their means.
    skill
        1 less the one as a part of the other: 0 for a model that is like the baseline, below 0 for a worse one.
    confidence
        The share of the last 100 that were within the tolerance; None below 30.
    """

    key: str
    outcomes: int
    loss: float
    baseline_loss: float
    skill: float
    confidence: float | None


class _SavedScored(msgspec.Struct, frozen=True, array_like=True):
    point: str
    keys: int
    losses: bytes
    within: int


class _SavedPending(msgspec.Struct, frozen=True, array_like=True):
    point: str
    keys: int
    predicted: bytes


class _SavedFormat(msgspec.Struct, frozen=True):
    format: int


class _SavedTracker(msgspec.Struct, frozen=True):
    format: int
    keys: tuple[tuple[str, ...], ...]
    scored: tuple[_SavedScored, ...]
    pending: tuple[_SavedPending, ...]
    since_mark: int
    loss_at_promotion: float | None
    since_promotion: tuple[float, ...]


class SkillTracker:
    """Scores the predictions of one trained model, each once, when its outcome is known.

    The baseline's prediction is taken when the model's comes, before the outcome is known to either. A model
    that is trained again is another one, with a tracker of its own: nothing here has been seen by the model.

    Parameters
    ----------
    baseline
        Shared by all trackers; whoever owns it observes every outcome once.
    tolerance
        The factor within which a prediction counts as right; 1 or more.
    """

    def __init__(self, baseline: scoring.RecentOutcomes, *, tolerance: float = scoring.TOLERANCE) -> None:
        self._baseline = baseline
        self.tolerance = tolerance
        self._pending: OrderedDict[str, Pairs] = OrderedDict()
        self._scored: deque[Kept] = deque(maxlen=SCORED_WINDOW)
        self._names = Names()
        self._total = 0
        self._mark = 0
        self._marks = 0
        self._loss_at_promotion: float | None = None
        self._since_promotion: deque[float] = deque(maxlen=scoring.DRIFT_WINDOW)

    @property
    def tolerance(self) -> float:
        """The factor within which a prediction counts as right, from the next outcome on.

        Raises
        ------
        ValueError
            If it is set to less than 1.
        """
        return self._tolerance

    @tolerance.setter
    def tolerance(self, tolerance: float) -> None:
        if not tolerance >= 1:
            raise ValueError(f"tolerance must be 1 or more, is {tolerance}")
        self._tolerance = tolerance

    @property
    def scored(self) -> Sequence[Scored]:
        """What was scored, in the order in which outcomes became known."""
        return [kept.scored for kept in self._scored]

    @property
    def total(self) -> int:
        """How many predictions were scored, forgotten ones too."""
        return self._total

    @property
    def since_mark(self) -> Sequence[Scored]:
        """What was scored since `mark`, or at all; the newest `SCORED_WINDOW`."""
        count = self.count_since_mark
        return [kept.scored for kept in tuple(self._scored)[-count:]] if count else []

    @property
    def count_since_mark(self) -> int:
        """The length of `since_mark`."""
        return min(self._total - self._mark, len(self._scored))

    def mark(self) -> None:
        """Begin a new comparison: what was scored before has been judged already."""
        self._mark = self._total
        self._marks += 1

    @property
    def marks(self) -> int:
        """How often a new comparison was begun."""
        return self._marks

    @property
    def pending(self) -> int:
        """How many predictions wait for their outcome."""
        return len(self._pending)

    def asked(self, point: str, workload: str | None, request_type: str, prediction: Mapping[str, Any]) -> bool:
        """Keep a prediction until its outcome is known.

        Parameters
        ----------
        point
            The request's key. Asked again, the first prediction counts.
        workload
            Its `engine_ops.ml.keys.workload_key`, or None.
        request_type
            Its type.
        prediction
            What the model said. Anything but the scored keys is ignored.

        Returns
        -------
        bool
            Whether there is anything in it that can be scored; False is ``skill: Unscored``.
        """
        predicted = scoring.scored_values(prediction)
        if not predicted:
            return False
        known = {key: self._baseline.predict(workload, request_type, key) for key in predicted}
        baseline = {key: value for key, value in known.items() if value is not None}
        if not baseline:
            return True  # and nothing to compare with
        self._pending.setdefault(point, Pairs.of(self._names.of(tuple(baseline)), predicted, baseline))
        while len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)
        return True

    def known(self, point: str, values: Mapping[str, float]) -> Scored | None:
        """Score a prediction by its outcome.

        Parameters
        ----------
        point
            The request's key.
        values
            Its `engine_ops.ml.scoring.actual_values`; empty where the outcome is unknown.

        Returns
        -------
        Scored or None
            None where the model was not asked, or neither it nor the baseline said anything of what is known.
        """
        waiting = self._pending.pop(point, None)
        if waiting is None:
            return None
        keys = self._names.of([key for key in waiting.keys if key in values])
        if not keys:
            return None
        predicted, baseline = waiting.mappings
        scored = Scored(
            point,
            {key: scoring.loss(key, predicted[key], values[key]) for key in keys},
            {key: scoring.loss(key, baseline[key], values[key]) for key in keys},
            {key: scoring.is_within(key, predicted[key], values[key], self._tolerance) for key in keys},
        )
        self._scored.append(Kept.of(scored, keys))
        self._total += 1
        self._since_promotion.append(_mean(scored.losses.values()))
        return scored

    def skills(self) -> list[Skill]:
        """Return the skill for each key that was scored, the one with the most outcomes first, durations before all."""
        scored = self.scored
        keys = {key for one in scored for key in one.losses}
        found = [_skill(key, scored) for key in keys]
        return sorted(found, key=lambda skill: (skill.key != scoring.DURATION, -skill.outcomes, skill.key))

    def promoted(self) -> None:
        """Take note that the model is served from now on: drift is measured against its loss until now. Marks, too."""
        losses = [_mean(kept.losses.values[: len(kept.losses.keys)]) for kept in self._scored]
        self._loss_at_promotion = _mean(losses) if losses else None
        self._since_promotion.clear()
        self.mark()

    @property
    def knows_its_loss(self) -> bool:
        """Whether there is a loss at promotion to measure drift against."""
        return self._loss_at_promotion is not None

    @property
    def has_drifted(self) -> bool:
        """Whether the mean loss of the last 50 is above 1.2 times that at promotion; False before either is there."""
        if self._loss_at_promotion is None:
            return False
        return scoring.has_drifted(tuple(self._since_promotion), self._loss_at_promotion)

    def forget_pending(self) -> None:
        """Score nothing that was predicted so far: nobody tells a model how it went that is asked no more."""
        self._pending.clear()

    def to_state(self) -> bytes:
        """Return the newest `SAVED_SCORED` outcomes and `SAVED_PENDING` predictions as msgpack, some 200 KB at most."""
        scored = tuple(self._scored)[-SAVED_SCORED:]
        pending = list(self._pending.items())[-SAVED_PENDING:]
        found = dict.fromkeys([*(one.losses.keys for one in scored), *(one.keys for _, one in pending)])
        number_of = {keys: number for number, keys in enumerate(found)}
        return msgspec.msgpack.encode(
            _SavedTracker(
                format=_FORMAT,
                keys=tuple(found),
                scored=tuple(
                    _SavedScored(one.point, number_of[one.losses.keys], one.losses.numbers, one.within)
                    for one in scored
                ),
                pending=tuple(_SavedPending(point, number_of[one.keys], one.numbers) for point, one in pending),
                since_mark=min(self.count_since_mark, len(scored)),
                loss_at_promotion=self._loss_at_promotion,
                since_promotion=tuple(self._since_promotion),
            )
        )

    @classmethod
    def of_state(cls, state: bytes, baseline: scoring.RecentOutcomes, *, tolerance: float = scoring.TOLERANCE) -> Self:
        """Return the tracker that `to_state` was called on.

        Parameters
        ----------
        state
            What `to_state` returned.
        baseline, tolerance
            As for a new one.

        Raises
        ------
        ValueError
            If it is no such state.
        """
        try:
            version = msgspec.msgpack.decode(state, type=_SavedFormat).format
            if version != _FORMAT:
                raise ValueError(f"the skill of a model is saved in format {version}; this version reads {_FORMAT}")
            saved = msgspec.msgpack.decode(state, type=_SavedTracker)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"the skill of a model cannot be read: {error}") from error
        if not all(map(math.isfinite, [*saved.since_promotion, saved.loss_at_promotion or 0.0])):
            raise ValueError("the skill of a model cannot be read: a loss is not finite")
        tracker = cls(baseline, tolerance=tolerance)
        for one in saved.scored:
            tracker._scored.append(Kept(one.point, _pairs_of(saved, one.keys, one.losses), one.within))
        for waiting in saved.pending:
            tracker._pending[waiting.point] = _pairs_of(saved, waiting.keys, waiting.predicted)
        tracker._total = len(tracker._scored)
        tracker._mark = tracker._total - min(max(saved.since_mark, 0), tracker._total)
        tracker._loss_at_promotion = saved.loss_at_promotion
        tracker._since_promotion.extend(saved.since_promotion)
        return tracker


def _skill(key: str, scored: Sequence[Scored]) -> Skill:
    mine = [one for one in scored if key in one.losses]
    losses = [one.losses[key] for one in mine]
    baseline = [one.baseline_losses[key] for one in mine]
    skill = scoring.skill(losses, baseline)
    return Skill(
        key=key,
        outcomes=len(mine),
        loss=_mean(losses),
        baseline_loss=_mean(baseline),
        # There is at least one outcome, or the key would not be here.
        skill=0.0 if skill is None else skill,
        confidence=scoring.confidence([one.within[key] for one in mine]),
    )


def _pairs_of(saved: _SavedTracker, number: int, numbers: bytes) -> Pairs:
    keys = saved.keys[number] if 0 <= number < len(saved.keys) else ()
    pairs = Pairs(keys, numbers)
    if not keys or not pairs.is_sound:
        raise ValueError("the skill of a model cannot be read: losses are not finite, or not paired")
    return pairs


def paired_losses(
    candidate: Sequence[Scored], current: Sequence[Scored] | None = None
) -> tuple[list[float], list[float], list[float] | None]:
    """Return the losses of a candidate, the baseline and the current model on outcomes that both models were asked for.

    Each tracker is of one training, so these came after the last training of both. Of each outcome it is the mean over
    the keys that both models predicted.

    Parameters
    ----------
    candidate, current
        `SkillTracker.scored` of the models; None where none is served.

    Returns
    -------
    tuple of list
        The candidate's, the baseline's and the current model's (None without one), in the candidate's order: what
        `engine_ops.plugins.promotion.decide_promotion` takes.
    """
    others = None if current is None else {scored.point: scored.losses for scored in current}
    mine: list[float] = []
    baseline: list[float] = []
    theirs: list[float] | None = None if others is None else []
    for scored in candidate:
        other = scored.losses if others is None else others.get(scored.point, {})
        keys = [key for key in scored.losses if key in other]
        if not keys:
            continue
        mine.append(_mean(scored.losses[key] for key in keys))
        baseline.append(_mean(scored.baseline_losses[key] for key in keys))
        if theirs is not None:
            theirs.append(_mean(other[key] for key in keys))
    return mine, baseline, theirs


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found)
