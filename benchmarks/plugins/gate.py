"""How often a plugin's model gets through its gate, from the questions to the promotion; beside `promotion.py`.

python benchmarks/plugins/gate.py

Each of many plugins (`engine_ops.plugins.hosted.HostedPlugin`; only its process is played) has one trained model in
shadow. 480 requests for one workload are asked of it, one after another, and the outcome of each becomes known before
the next. Log durations are Laplace distributed about a median that does not change, so the baseline, the median of the
last five, is wrong by the noise of five. The models:

- "a third more error" says such a median of five other runs, with 1.3 times its error and noise on top,
- "as good as the baseline" says the median of five other runs,
- "true median" always says what the durations are distributed about,
- "half the error" says a duration half way, in logarithms, from there to the outcome.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import random
import statistics
from collections.abc import Callable

from tabulate import tabulate

from engine_ops.api.optimizerplugin import OptimizerPluginSpec
from engine_ops.ml.scoring import DURATION, RecentOutcomes
from engine_ops.plugins.hosted import HostedPlugin
from engine_ops.plugins.hosting import Hosting
from engine_ops.plugins.instance import Counters, Latency
from engine_ops.plugins.messages import Ask, Opened, Replied, Trained

OUTCOMES = 480
MEDIAN_MS = 600_000.0
WORKLOAD = "jobs/Job/nightly"
TURNS = 4
"""Of the event loop, for an answer in shadow."""


def draw(rng: random.Random) -> float:
    return MEDIAN_MS * math.exp(rng.choice((-1, 1)) * rng.expovariate(1.0))


def of_five(rng: random.Random) -> float:
    return statistics.median(draw(rng) for _ in range(5))


MODELS: dict[str, Callable[[random.Random, float], float]] = {
    "a third more error": lambda rng, _: MEDIAN_MS * (of_five(rng) / MEDIAN_MS) ** 1.3 * math.exp(rng.gauss(0, 0.3)),
    "as good as the baseline": lambda rng, _: of_five(rng),
    "true median": lambda *_: MEDIAN_MS,
    "half the error": lambda _, actual: math.sqrt(MEDIAN_MS * actual),
}


class Played:
    """An instance whose model says what it is told to."""

    degraded = unavailable = last_error = None
    latency = Latency()
    says = 0.0

    def __init__(self, *_: object) -> None:
        self.opened: Opened | None = None
        self.counters = Counters()

    async def start(self) -> Opened:
        """See `engine_ops.plugins.instance.Instance`, as for the others."""
        self.opened = Opened("a", "1", "", ("resource",), has_model=True, is_trained=False)
        return self.opened

    async def ask(self, ask: Ask, *, timeout_seconds: float | None = None) -> Replied:
        """Say it."""
        del ask, timeout_seconds
        return Replied(b"{}", scored={DURATION: Played.says}, is_trained=True)

    async def train(self, timeout_seconds: float, replay: Ask | None = None) -> Trained:
        """Be trained at once."""
        del timeout_seconds, replay
        return Trained("m", 10, "sha256:" + "0" * 64, state=b"m", is_trained=True)

    def set_state(self, state: bytes) -> None:
        """Nothing is kept."""

    def blame(self, reason: str) -> None:
        """Nothing is counted."""

    async def close(self) -> None:
        """Nothing is open."""


class History:
    """Enough to train a model."""

    def points(self) -> int:
        """So many."""
        return 10


async def trial(model: str, seed: int) -> tuple[int | None, int | None]:
    """Return at which outcome a model was promoted, and at which taken back; None for never."""
    rng = random.Random(f"{model} {seed}")
    baseline = RecentOutcomes()
    for _ in range(5):
        baseline.observe(WORKLOAD, "resource", {DURATION: draw(rng)})
    source = {"source": {"entryPoint": "a.b:C"}, "training": {"gate": "proven", "retrain": {"onDrift": False}}}
    plugin = HostedPlugin(
        "a", OptimizerPluginSpec.model_validate(source), Hosting(Played, History(), baseline=baseline)
    )
    while plugin.snapshot().candidate is None:  # noqa: ASYNC110 - it is there within a few turns
        await asyncio.sleep(0)
    promoted = taken_back = None
    for number in range(1, OUTCOMES + 1):
        actual = draw(rng)
        Played.says = MODELS[model](rng, actual)
        key = number.to_bytes(16, "big")
        await plugin.ask(Ask("r", "resource", b"{}"), point=key, workload=WORKLOAD, needs_prediction=False)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        plugin.outcome(key.hex(), {DURATION: actual})
        baseline.observe(WORKLOAD, "resource", {DURATION: actual})
        is_served = plugin.snapshot().model is not None
        if is_served and promoted is None:
            promoted = number
        elif promoted is not None and not is_served and taken_back is None:
            taken_back = number
    await plugin.close()
    return promoted, taken_back


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--plugins", type=int, default=200, help="of each kind")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    rows = []
    for model in MODELS:
        found = [asyncio.run(trial(model, seed)) for seed in range(arguments.plugins)]
        when = [promoted for promoted, _ in found if promoted is not None]
        shares = [sum(each) / len(found) for each in ([at == 30 for at in when], [at > 0 for at in when])]
        back = sum(taken_back is not None for _, taken_back in found) / len(found)
        rows.append([model, *shares, statistics.median(when) if when else None, back])
    print(f"share of {arguments.plugins} plugins whose model was promoted within {OUTCOMES} outcomes")
    headers = ["model", "at 30", "in all", "median outcome", "taken back later"]
    print(tabulate(rows, headers=headers, floatfmt=("", ".2f", ".2f", "g", ".2f")))


if __name__ == "__main__":
    main()
