"""A quantile of samples, and how well the samples know it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_FUZZ = 1e-9
"""``0.95 * 100`` must count as 95 whatever its last bit."""

_HIGHEST_WATCHED = 0.9
"""Every sample is at or below the peak: how alike neighbours are is looked at lower down."""


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A quantile and its confidence interval, in the unit of the samples.

    Parameters
    ----------
    value
        The quantile of the samples.
    lower
        The lower end of the interval; the smallest sample where even that is not below with enough confidence.
    upper
        The upper end; None where no sample is above the quantile with enough confidence: there are too few, or the
        quantile is the peak, which samples cannot bound.
    samples
        How many there are.
    effective_samples
        How many independent samples tell as much.
    """

    value: float
    lower: float
    upper: float | None
    samples: int
    effective_samples: int


def quantile(ordered: FloatArray, level: float) -> float:
    """Return the smallest sample with at least a share ``level`` of the samples at or below it.

    That is Hyndman and Fan's type 1 (Sample quantiles in statistical packages, 1996), the inverse of the empirical
    distribution: always one of the samples, never between two.

    Parameters
    ----------
    ordered
        Shape (n,), ascending, n at least 1.
    level
        Above 0, at most 1.
    """
    return float(ordered[_rank(len(ordered), level) - 1])


def estimate(samples: FloatArray, level: float, confidence: float) -> Estimate:
    """Estimate a quantile and a two-sided confidence interval for it.

    The interval is made of order statistics and holds for every continuous distribution (David and Nagaraja, Order
    Statistics, 2003, section 7.1): the number of samples at or below the true quantile is binomial. It takes the
    samples as independent; where one resembles the one before, the count is reduced by the autocorrelation at lag 1 of
    being at or below the quantile (that of 0.9 for higher ones), ``n (1 - r) / (1 + r)``.

    Parameters
    ----------
    samples
        Shape (n,), oldest first, n at least 1.
    level
        Above 0, at most 1.
    confidence
        Of the interval, such as 0.95.
    """
    ordered = np.sort(samples)
    value = quantile(ordered, level)
    count = len(ordered)
    effective = _effective_count(samples <= quantile(ordered, min(level, _HIGHEST_WATCHED)))
    lower_rank, upper_rank = interval_ranks(effective, level, confidence)
    # Ranks among the effective samples become ranks among all, outwards.
    lower_index = math.floor(lower_rank * count / effective)
    lower = float(ordered[max(lower_index, 1) - 1])
    upper = None
    if upper_rank <= effective:
        upper = float(ordered[min(math.ceil(upper_rank * count / effective), count) - 1])
    return Estimate(value, min(lower, value), upper, count, effective)


def interval_ranks(count: int, level: float, confidence: float) -> tuple[int, int]:
    """Return the ranks, from 1, of the order statistics that enclose the quantile.

    Parameters
    ----------
    count
        How many independent samples.
    level, confidence
        As in `estimate`.

    Returns
    -------
    tuple of int
        The lower one is 0, and the upper one ``count + 1``, where no sample will do.

    Examples
    --------
    >>> interval_ranks(100, 0.5, 0.95)
    (40, 61)
    """
    if level >= 1:
        # The peak is never below the largest sample, and nothing says how far above it is.
        return count, count + 1
    tail = (1 - confidence) / 2
    below = _binomial_cdf(count, level)
    # P(X_(l) > q) = P(B <= l - 1) and P(X_(u) < q) <= P(B >= u) = 1 - P(B <= u - 1).
    lower = int(np.searchsorted(below, tail, side="right"))
    upper = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return lower, upper


def peak_coverage(count: int, confidence: float) -> float:
    """Return the share of the usage that is below the largest sample, at least, with some confidence.

    The tolerance limit of Wilks (Determination of sample sizes for setting tolerance limits, 1941).

    >>> round(peak_coverage(59, 0.95), 3)
    0.95
    """
    return math.pow(1 - confidence, 1 / count)


def _binomial_cdf(count: int, level: float) -> FloatArray:
    """Return P(B <= k) for k from 0 to ``count``, B binomial."""
    k = np.arange(count, dtype=np.float64)
    steps = np.log((count - k) / (k + 1)) + math.log(level) - math.log1p(-level)
    log_mass = count * math.log1p(-level) + np.concatenate(([0.0], np.cumsum(steps)))
    distribution: FloatArray = np.cumsum(np.exp(log_mass))
    return distribution


def _rank(count: int, level: float) -> int:
    return min(max(math.ceil(count * level - _FUZZ), 1), count)


def _effective_count(below: npt.NDArray[np.bool_]) -> int:
    count = len(below)
    deviation = below - below.mean()
    variance = float(deviation @ deviation)
    if count < 3 or variance == 0:
        return count
    correlation = min(max(float(deviation[1:] @ deviation[:-1]) / variance, 0.0), 0.99)
    return max(1, math.floor(count * (1 - correlation) / (1 + correlation) + _FUZZ))
