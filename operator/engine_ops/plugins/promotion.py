"""When a newly trained model takes over: only when it is better on outcomes that none of the compared had seen."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MINIMUM_OUTCOMES: Final = 30
CONFIDENCE: Final = 0.9
RESAMPLES: Final = 1000
MAXIMUM_OUTCOMES: Final = 3840
"""The newest so many are looked at: what a model was like long ago says little of it."""

_SMALLEST_ERROR: Final = 0.25
"""Of a resample's mean, as a part of the sample's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same outcomes.

    Parameters
    ----------
    mean_difference
        Of the losses, the first model's less the second's: below 0 where the first is better.
    upper_bound
        Of the true mean difference, with the confidence of the test.
    outcomes
        How many were compared.
    """

    mean_difference: float
    upper_bound: float
    outcomes: int

    @property
    def is_better(self) -> bool:
        """Whether the first model is better with enough confidence."""
        return self.upper_bound < 0


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, and why.

    Parameters
    ----------
    passed
        Whether the model is to be promoted (`decide_promotion`), or demoted (`decide_demotion`).
    message
        A sentence for people.
    against_current, against_baseline
        What it rests on, the first model being the candidate, or the baseline in a demotion; None where that was not
        compared.
    """

    passed: bool
    message: str
    against_current: Comparison | None = None
    against_baseline: Comparison | None = None


def decide_promotion(
    candidate: Sequence[float],
    baseline: Sequence[float],
    current: Sequence[float] | None = None,
    *,
    seed: int = 0,
) -> Decision:
    """Decide whether a candidate is to be served.

    It must be better than the current model and than the baseline, each with 90 % confidence. Losses are looked at when
    there are 30, 60, 120, ... of them, and between two looks as at the last one: a model that were tested anew after
    every outcome would pass sooner or later, however bad.

    Parameters
    ----------
    candidate, baseline, current
        Losses on the same outcomes in the order in which they became known, by models trained before any of them was;
        see `engine_ops.plugins.skill.paired_losses`. ``current`` is None where no model is served.
    seed
        Of the resampling: equal losses and seeds give equal decisions.

    Raises
    ------
    ValueError
        If there are not as many of each, or one is not finite.
    """
    size = _paired(candidate, baseline, *([] if current is None else [current]))
    look = latest_look(size)
    if look == 0:
        return Decision(False, _too_few(size))
    against_baseline = compare(candidate[:look], baseline[:look], seed=seed)
    against_current = None if current is None else compare(candidate[:look], current[:look], seed=seed)
    passed = against_baseline.is_better and (against_current is None or against_current.is_better)
    against = [("the baseline", against_baseline)]
    if against_current is not None:
        against.insert(0, ("the current model", against_current))
    return Decision(passed, "; ".join(_told(name, made) for name, made in against), against_current, against_baseline)


def decide_demotion(serving: Sequence[float], baseline: Sequence[float], *, seed: int = 0) -> Decision:
    """Decide whether the model that is served must go back to shadow: the baseline is better, by the same test.

    Parameters
    ----------
    serving, baseline
        Losses on the same outcomes since the promotion; see `decide_promotion`.
    seed
        Of the resampling.

    Raises
    ------
    ValueError
        If there are not as many of each, or one is not finite.
    """
    look = latest_look(_paired(serving, baseline))
    if look == 0:
        return Decision(False, _too_few(len(serving)))
    reverse = compare(baseline[:look], serving[:look], seed=seed)
    message = (
        f"the baseline is better than the model by {-reverse.mean_difference:.3g} a prediction over {look} outcomes"
        if reverse.is_better
        else f"over {look} outcomes the baseline is not better with {CONFIDENCE:.0%} confidence"
    )
    return Decision(reverse.is_better, message, against_baseline=reverse)


def latest_look(outcomes: int) -> int:
    """Return how many of the outcomes are looked at: the largest of 30, 60, 120, ... that is there; 0 below 30.

    >>> [latest_look(count) for count in (29, 30, 59, 60, 1000)]
    [0, 30, 30, 60, 960]
    """
    return 0 if outcomes < MINIMUM_OUTCOMES else MINIMUM_OUTCOMES << int(math.log2(outcomes // MINIMUM_OUTCOMES))


def compare(losses: Sequence[float], others: Sequence[float], *, seed: int = 0) -> Comparison:
    """Bound the mean difference of paired losses from above, one-sided, with 90 % confidence.

    The losses of successive outcomes are alike, so blocks of them are drawn: the circular block bootstrap (Politis and
    Romano, A circular block-resampling procedure for stationary data, 1992) of blocks as long as the root of their
    number, with each resampled mean divided by its own standard error (Götze and Künsch, Second-order correctness of
    the blockwise bootstrap, 1996), as losses are skewed and few. The bound is never above the largest difference.

    Parameters
    ----------
    losses, others
        Of one or more outcomes, at most the newest `MAXIMUM_OUTCOMES` of which count.
    seed
        Of the resampling.

    Raises
    ------
    ValueError
        If there are none, not as many of each, or one is not finite.
    """
    size = _paired(losses, others)
    if not size:
        raise ValueError("nothing to compare: there are no losses")
    difference = np.subtract(losses, others, dtype=np.float64)[-MAXIMUM_OUTCOMES:]
    mean = float(difference.mean())
    return Comparison(mean, mean + _margin(difference, seed), len(difference))


def _margin(difference: FloatArray, seed: int) -> float:
    """Return how far above the mean of (n,) differences the bound on their true mean is."""
    size = len(difference)
    length = math.isqrt(size - 1) + 1
    means = _block_means(difference, length)
    spread = float(means.std())
    # Differences that are all alike leave nothing to chance; what is left then is rounding.
    if size <= length or spread <= 1e-12 * float(np.abs(difference).max()):
        return 0.0 if size > 1 else math.inf
    # Means of whole blocks vary less about the sample's mean than about the true one: the factor is that of variances.
    error = spread * math.sqrt(length / size) * math.sqrt(size / (size - length))
    drawn = np.random.default_rng(seed).integers(0, size, (RESAMPLES, -(-size // length)))
    chosen = means[drawn]
    errors = chosen.std(axis=1, ddof=1) / math.sqrt(chosen.shape[1])
    # Blocks that are nearly alike give resamples with hardly an error of their own, and ratios without bound.
    ratios = (chosen.mean(axis=1) - means.mean()) / np.maximum(errors, _SMALLEST_ERROR * error)
    margin = -float(np.quantile(ratios, 1 - CONFIDENCE)) * error
    return min(max(margin, 0.0), float(difference.max() - difference.mean()))


def _block_means(values: FloatArray, length: int) -> FloatArray:
    """Return the mean of the block of ``length`` that begins at each value, around the end, (n,)."""
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values[: length - 1]]))])
    result: FloatArray = (sums[length:] - sums[:-length]) / length
    return result


def _paired(*losses: Sequence[float]) -> int:
    sizes = {len(one) for one in losses}
    if len(sizes) > 1:
        raise ValueError(f"losses are paired: {' and '.join(map(str, sorted(sizes)))} are not as many")
    if not all(math.isfinite(value) for one in losses for value in one):
        raise ValueError("every loss must be finite")
    return sizes.pop()


def _too_few(outcomes: int) -> str:
    return f"{outcomes} of {MINIMUM_OUTCOMES} outcomes since the last training"


def _told(name: str, made: Comparison) -> str:
    if made.is_better:
        return f"better than {name} by {-made.mean_difference:.3g} a prediction over {made.outcomes} outcomes"
    return f"not better than {name} with {CONFIDENCE:.0%} confidence over {made.outcomes} outcomes"
