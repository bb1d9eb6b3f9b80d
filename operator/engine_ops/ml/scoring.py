"""How good a prediction was: loss, skill against the naive baseline, confidence and drift.

Everything here is prequential (Dawid 1984): a prediction is scored once, when its outcome is known, by a model that had
not seen it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.keys import outcome_of

DURATION: Final = "expected_duration"
"""How long the workload takes, in milliseconds."""

SUCCESS: Final = "success_rate"
"""The probability that it succeeds, 0 to 1."""

RESOURCES: Final = "recommended_resources"
"""Amounts by resource, in the unit of the history's usage; each is scored as ``recommended_resources.<resource>``."""

TOLERANCE: Final = 1.25
"""The factor within which a prediction counts as right."""

CONFIDENCE_WINDOW: Final = 100
CONFIDENCE_MINIMUM: Final = 30
DRIFT_WINDOW: Final = 50
DRIFT_FACTOR: Final = 1.2
BASELINE_WINDOW: Final = 5
BASELINE_SIZE: Final = 50_000
"""So many workloads and types, times keys: more than a history of 10,000 points has. Those that were observed longest
ago are forgotten: Jobs are often named anew for each run."""
LOWEST_SKILL: Final = -1.0

_DURATION_UNIT_MS: Final = 1000.0
_RESOURCE_UNIT: Final = 0.001


def scored_values(prediction: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a prediction that can be scored, by their key.

    Anything else in it, and numbers that no outcome can be like (negative, not finite, a rate above 1), are left out: a
    prediction that leaves nothing is unscored.

    Returns
    -------
    dict
        ``expected_duration``, ``success_rate`` and ``recommended_resources.<resource>``, those that are there.
    """
    found: dict[str, Any] = {name: prediction.get(name) for name in (DURATION, SUCCESS)}
    resources = prediction.get(RESOURCES)
    if isinstance(resources, Mapping):
        found |= {resource_key(name): amount for name, amount in resources.items() if isinstance(name, str)}
    return {key: float(value) for key, value in found.items() if _possible(key, value)}


def actual_values(point: WorkloadDataPoint) -> dict[str, float]:
    """Return what the point says of each key that can be scored; empty where its outcome is unknown."""
    outcome = outcome_of(point)
    found: dict[str, float | None] = {DURATION: outcome.duration_ms, SUCCESS: outcome.success}
    found |= {resource_key(name): used for name, used in outcome.usage.items()}
    return {key: value for key, value in found.items() if value is not None and _possible(key, value)}


def nested(values: Mapping[str, float]) -> dict[str, Any]:
    """Return scored values as a prediction, its resources under one key: the inverse of `scored_values`."""
    prediction: dict[str, Any] = {}
    for key, value in values.items():
        if key.startswith(f"{RESOURCES}."):
            prediction.setdefault(RESOURCES, {})[key.removeprefix(f"{RESOURCES}.")] = value
        else:
            prediction[key] = value
    return prediction


def resource_key(resource: str) -> str:
    """Return the scored key of a resource's amount."""
    return f"{RESOURCES}.{resource}"


def loss(key: str, predicted: float, actual: float) -> float:
    """Return the loss of one prediction: its absolute log error.

    It is ``|ln(1 + predicted / u) - ln(1 + actual / u)|``. Durations have a u of one second, the resolution of a Job's
    times, below which a ratio says nothing; amounts one of 0.001. A success rate has the Brier score instead, the
    squared difference (Brier 1950): of two outcomes 0 and 1, an absolute error would reward whoever rounds.

    Raises
    ------
    ValueError
        If a number is negative or not finite, or a rate above 1.
    """
    _check(key, predicted, actual)
    if key == SUCCESS:
        return (predicted - actual) ** 2
    return abs(to_logarithm(key, predicted) - to_logarithm(key, actual))


def pinball_loss(key: str, predicted: float, actual: float, quantile: float) -> float:
    """Return the loss of a predicted quantile, on the scale of `loss` (Koenker and Bassett 1978).

    Twice the usual pinball loss of the logarithms, so that the median's is the absolute log error.

    Raises
    ------
    ValueError
        If the quantile is not between 0 and 1, the key is a success rate (which has no quantiles), or a number is
        negative or not finite.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must lie between 0 and 1, is {quantile}")
    if key == SUCCESS:
        raise ValueError("a success rate has no quantiles")
    _check(key, predicted, actual)
    above = to_logarithm(key, actual) - to_logarithm(key, predicted)
    return 2 * max(quantile * above, (quantile - 1) * above)


def to_logarithm(key: str, value: float) -> float:
    """Return an amount on the scale that `loss` measures differences on: ``ln(1 + value / u)``."""
    unit = _unit(key)
    # Of the largest floats the quotient would be infinite.
    return math.log1p(value / unit) if value < 1e300 else math.log(value) - math.log(unit)


def from_logarithm(key: str, logarithm: float) -> float:
    """Return the amount, at least 0 and finite, that has a logarithm by `to_logarithm`."""
    unit = _unit(key)
    if logarithm > 700:  # close to the largest float
        return math.exp(min(logarithm + math.log(unit), 709))
    return max(0.0, math.expm1(logarithm) * unit)


def is_within(key: str, predicted: float, actual: float, tolerance: float = TOLERANCE) -> bool:
    """Return whether a prediction lies within a factor of the outcome.

    For a success rate that is the probability that was given to what happened: at least ``1 / tolerance``.

    Raises
    ------
    ValueError
        If the tolerance is below 1, a number is negative or not finite, or a rate above 1.
    """
    if not tolerance >= 1:
        raise ValueError(f"tolerance must be 1 or more, is {tolerance}")
    _check(key, predicted, actual)
    if key == SUCCESS:
        return 1 - abs(predicted - actual) >= 1 / tolerance
    return actual <= predicted * tolerance and predicted <= actual * tolerance


def skill(losses: Sequence[float], baseline_losses: Sequence[float]) -> float | None:
    """Return 1 - loss / the baseline's loss, over the same outcomes.

    Returns
    -------
    float or None
        1 where nothing was wrong, 0 where the model is like the baseline, at least `LOWEST_SKILL`: twice the loss and
        anything worse look alike, and a perfect baseline gives no infinity. None over nothing.

    Raises
    ------
    ValueError
        If there are not as many of one as of the other.
    """
    if len(losses) != len(baseline_losses):
        raise ValueError(f"losses are paired: {len(losses)} are not {len(baseline_losses)}")
    if not losses:
        return None
    own, other = math.fsum(losses), math.fsum(baseline_losses)
    if own == other:
        return 0.0
    return max(LOWEST_SKILL, 1 - own / other) if other > 0 else LOWEST_SKILL


def confidence(within: Sequence[bool]) -> float | None:
    """Return the share of the last 100 scored predictions that were within the tolerance; None below 30.

    Parameters
    ----------
    within
        `is_within` of each, oldest first.
    """
    window = within[-CONFIDENCE_WINDOW:]
    return sum(window) / len(window) if len(window) >= CONFIDENCE_MINIMUM else None


def has_drifted(losses: Sequence[float], loss_at_promotion: float) -> bool:
    """Return whether the mean loss of the last 50 is above 1.2 times that at promotion; never with fewer than 50.

    Parameters
    ----------
    losses
        Of the serving model since its promotion, oldest first.
    loss_at_promotion
        The mean loss that it was promoted with.
    """
    if len(losses) < DRIFT_WINDOW:
        return False
    return math.fsum(losses[-DRIFT_WINDOW:]) / DRIFT_WINDOW > DRIFT_FACTOR * loss_at_promotion


class RecentOutcomes:
    """The baseline that every model is compared with: the median of the last five of the workload, else of the type.

    Of a success rate it is the mean of the last five: the median of zeros and ones is no rate, and is beaten too
    easily. Outcomes are given in the order in which they became known; only what was given before counts, so whoever
    predicts first and observes then compares prequentially. At most `BASELINE_SIZE` medians are kept.
    """

    def __init__(self) -> None:
        self._recent: OrderedDict[Hashable, tuple[float, ...]] = OrderedDict()

    def observe(self, workload: str | None, request_type: str, values: Mapping[str, float]) -> None:
        """Add the outcome of one point.

        Parameters
        ----------
        workload
            Its `workload_key`, or None.
        request_type
            Its type.
        values
            `actual_values` of it.
        """
        recent = self._recent
        for key, value in values.items():
            for name in self._names(workload, request_type, key):
                # At the end again: what was observed longest ago is the first to be forgotten.
                recent[name] = (*recent.pop(name, ()), value)[-BASELINE_WINDOW:]
        while len(recent) > BASELINE_SIZE:
            recent.popitem(last=False)

    def become(self, other: RecentOutcomes) -> None:
        """Know what another knows, and nothing else. The other is not to be used any more."""
        self._recent = other._recent

    def predict(self, workload: str | None, request_type: str, key: str) -> float | None:
        """Return the prediction for a scored key; None where neither the workload nor the type has an outcome."""
        for name in self._names(workload, request_type, key):
            recent = self._recent.get(name)
            if recent:
                return math.fsum(recent) / len(recent) if key == SUCCESS else median(recent)
        return None

    @staticmethod
    def _names(workload: str | None, request_type: str, key: str) -> list[Hashable]:
        own: list[Hashable] = [] if workload is None else [("workload", workload, key)]
        return [*own, ("type", request_type, key)]


def median(values: Sequence[float]) -> float:
    """Return the median of one value or more."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    # Halved before they are added: the sum of two large values is infinite.
    return ordered[middle] if len(ordered) % 2 else ordered[middle - 1] / 2 + ordered[middle] / 2


def _unit(key: str) -> float:
    return _DURATION_UNIT_MS if key == DURATION else _RESOURCE_UNIT


def _possible(key: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return 0 <= float(value) <= (1.0 if key == SUCCESS else math.nextafter(math.inf, 0))
    except OverflowError:
        return False


def _check(key: str, predicted: float, actual: float) -> None:
    for name, value in (("predicted", predicted), ("actual", actual)):
        if not _possible(key, value):
            raise ValueError(
                f"{name} {key} must be a finite number from 0{' to 1' if key == SUCCESS else ''}, is {value!r}"
            )
