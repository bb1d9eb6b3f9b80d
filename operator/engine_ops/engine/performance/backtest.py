"""Would the rule have served? Fitted on the older samples, tried on the newer ones."""

from __future__ import annotations

import numpy as np

from engine_ops.engine.performance.hold_out import FEW_SAMPLES, older_count
from engine_ops.engine.performance.quantiles import FloatArray, quantile
from engine_ops.engine.performance.sizing import Goal

_PEAK_LEVEL = 0.99
"""At level 1 the pinball loss forgives every waste; the peak is judged at this level."""
_BASELINE_FACTOR = 1.15
"""The baseline is the largest sample and 15 %."""


def pinball_loss(samples: FloatArray, prediction: float, level: float) -> float:
    """Return the mean pinball loss: ``level`` a unit of shortage, ``1 - level`` a unit of excess.

    >>> pinball_loss(np.array([1.0, 3.0]), 2.0, 0.75)
    0.5
    """
    shortage = samples - prediction
    return float(np.mean(np.maximum(level * shortage, (level - 1) * shortage)))


def loss_ratio(samples: FloatArray, goal: Goal, chosen: float | None = None) -> float | None:
    """Return the rule's loss on the newest 30 % of the samples as a part of the baseline's.

    Both are fitted on the older 70 %, without the user's bounds, and judged at the goal's quantile.

    Parameters
    ----------
    samples
        Shape (n,), oldest first.
    goal
        What is wanted.
    chosen
        What another rule chose for the older samples, in place of the goal's own.

    Returns
    -------
    float or None
        Below 1 where the rule is better; None with fewer than `FEW_SAMPLES` samples, or where both are without loss.
    """
    if len(samples) < FEW_SAMPLES:
        return None
    split = older_count(len(samples))
    older, newer = np.sort(samples[:split]), samples[split:]
    level = min(goal.level, _PEAK_LEVEL)
    own = pinball_loss(newer, quantile(older, goal.level) * (1 + goal.margin) if chosen is None else chosen, level)
    baseline = pinball_loss(newer, float(older[-1]) * _BASELINE_FACTOR, level)
    if baseline == 0:
        return None if own == 0 else 1.0
    return own / baseline


def score(ratios: list[float | None]) -> float | None:
    """Return 1 minus the mean ratio, from 0 to 1; None without any back-test."""
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        return None
    return round(min(1.0, max(0.0, 1 - sum(known) / len(known))), 9)
