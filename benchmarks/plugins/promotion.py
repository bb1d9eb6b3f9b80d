"""How often a model is promoted that should not be, and how soon one that should be is.

python benchmarks/plugins/promotion.py

Losses are absolute log errors of predictions whose log errors are Laplace distributed. The candidate's scale is that of
the current model times a factor: 1 is a useless candidate (as good as what is there), 1.1 a slightly worse one. The two
models' errors on one outcome are alike (correlation 0.7), as they predict the same jobs; "runs" has them resemble those
of the outcome before, too. The baseline is a fifth worse than the current model.

For each of many candidates, outcomes arrive until 960 are there. Compared are

- the shipped test, looked at when there are 30, 60, ..., 960 outcomes,
- the same test after every tenth outcome,
- a hold-out of the last fifth at 10 points: promoted if its mean loss on two points is lower, looked at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from engine_ops.plugins.promotion import MINIMUM_OUTCOMES, compare, decide_promotion

FloatArray = npt.NDArray[np.float64]

OUTCOMES = 960
FACTORS = (1.3, 1.1, 1.0, 0.9, 0.7, 0.5)
ALIKE = 0.7
BASELINE_FACTOR = 1.2
RUNS = (0.0, 0.5)
PEEKING_STEP = 10
HOLD_OUT = 2


class Stream(NamedTuple):
    """Losses of the candidate, the baseline and the current model, each (outcomes,)."""

    candidate: FloatArray
    baseline: FloatArray
    current: FloatArray


def stream(factor: float, runs: float, rng: np.random.Generator) -> Stream:
    """Draw losses; ``runs`` is the correlation of an outcome's errors with those of the one before."""
    common = _resembling(rng, runs)
    errors = [np.sqrt(ALIKE) * common + np.sqrt(1 - ALIKE) * _resembling(rng, runs) for _ in range(3)]
    # A normal number of a random, exponentially distributed variance is Laplace distributed; jobs share it.
    width = np.sqrt(rng.exponential(size=OUTCOMES))
    scales = (factor, BASELINE_FACTOR, 1.0)
    return Stream(*(np.abs(scale * width * error) for scale, error in zip(scales, errors, strict=True)))


def _resembling(rng: np.random.Generator, runs: float) -> FloatArray:
    fresh = rng.normal(size=OUTCOMES)
    values = np.empty(OUTCOMES)
    values[0] = fresh[0]
    for place in range(1, OUTCOMES):
        values[place] = runs * values[place - 1] + np.sqrt(1 - runs**2) * fresh[place]
    return values


def shipped(losses: Stream, seed: int) -> int | None:
    """Return at which outcome the shipped test promotes; None for never."""
    for count in (MINIMUM_OUTCOMES << doubling for doubling in range(6)):
        candidate, baseline, current = (one[:count].tolist() for one in losses)
        if decide_promotion(candidate, baseline, current, seed=seed).passed:
            return count
    return None


def peeking(losses: Stream, seed: int) -> int | None:
    """Return at which outcome the same test promotes that is made again and again."""
    for count in range(MINIMUM_OUTCOMES, OUTCOMES + 1, PEEKING_STEP):
        candidate, baseline, current = (one[:count].tolist() for one in losses)
        if all(compare(candidate, other, seed=seed).is_better for other in (current, baseline)):
            return count
    return None


def hold_out(losses: Stream, _seed: int) -> int | None:
    """Return whether two points of hold-out promote."""
    better = losses.candidate[:HOLD_OUT].mean() < losses.current[:HOLD_OUT].mean()
    return HOLD_OUT if better else None


RULES: dict[str, Callable[[Stream, int], int | None]] = {
    "shipped": shipped,
    "every tenth outcome": peeking,
    "hold-out of two points": hold_out,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--candidates", type=int, default=300, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = []
    for runs in RUNS:
        for factor in FACTORS:
            found: dict[str, list[int | None]] = {name: [] for name in RULES}
            for number in range(arguments.candidates):
                losses = stream(factor, runs, np.random.default_rng([arguments.seed, number]))
                for name, rule in RULES.items():
                    found[name].append(rule(losses, number))
            shares = [np.mean([at is not None for at in found[name]]) for name in RULES]
            at_once = np.mean([at == MINIMUM_OUTCOMES for at in found["shipped"]])
            when = [at for at in found["shipped"] if at is not None]
            rows.append([runs, factor, at_once, *shares, np.median(when) if when else None])
    print(f"share of {arguments.candidates} candidates promoted within {OUTCOMES} outcomes")
    headers = ["runs", "loss / current's", "shipped, at 30", *RULES, "shipped: median outcome"]
    print(tabulate(rows, headers=headers, floatfmt=("g", "g", ".2f", ".2f", ".2f", ".2f", "g")))


if __name__ == "__main__":
    main()
