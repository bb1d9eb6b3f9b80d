"""The models that come with the engine: how well they predict recorded jobs, and what a prediction costs.

    python benchmarks/plugins/models.py --data ../shared/data

Accuracy: the models learn the jobs that had ended when the last fifth by submit time began, and predict the run times
of that fifth, each from what was known when the job was submitted; the naive models are given every outcome as soon as
it was known, the others are trained once. The mean absolute log error (``ln(1 + s)``), skill and the share within a
factor 1.25 are those of `engine_ops.ml.scoring`.

Cost: the CPU time of all quantiles of one row, the flattened trees beside scikit-learn's own `predict` of the models
that they were made from, in turns in one process, with one thread. Exits with 1 beyond the limit. The vector that the
row comes from, and taking in a history that has changed, are measured apart.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl
from sklearn.ensemble import HistGradientBoostingRegressor
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine_ops.history.formats.source import Source
from engine_ops.history.formats.swf import read_swf
from engine_ops.ml import WorkloadDataPoint, WorkloadDataset, scoring
from engine_ops.ml.examples import ResourceOptimizerModel, SimplePredictorModel
from engine_ops.ml.keys import known_at
from engine_ops.ml.lags import Lags
from engine_ops.ml.models import QuantileBoostingModel, SeasonalNaiveModel
from engine_ops.ml.models.flat_trees import FlatTrees
from engine_ops.ml.request import Request
from engine_ops.ml.scoring import DURATION
from history.predict import LOGS, TRAINED_SHARE, Log, all_jobs

LIMIT_US = 500.0
ROUNDS = 300
HISTORY = 10_000
WEEK_MS = 7 * 24 * 3_600_000


class Split(NamedTuple):
    """A log in the order of its submit times: what is learned, and what is predicted."""

    points: list[WorkloadDataPoint]
    learned: list[WorkloadDataPoint]
    predicted: list[WorkloadDataPoint]


class Row(NamedTuple):
    """What one model predicted, in milliseconds; None where it does not."""

    name: str
    predictions: Sequence[float | None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="where swf/ is")
    arguments = parser.parse_args()
    within_limit = True
    with threadpoolctl.threadpool_limits(1):
        for log in LOGS:
            path = arguments.data / "swf" / log.file
            if not path.exists():
                print(f"Skipped {log.name}: there is no {path}.")
            elif log.jobs is all_jobs:
                split = split_of(log, path)
                accuracy(log, split)
                within_limit &= cost(log, split)
    return 0 if within_limit else 1


def split_of(log: Log, path: Path) -> Split:
    points = sorted((p for p in read_swf(Source.of(path)) if log.jobs(p)), key=lambda point: point.timestamp)
    predicted = points[int(len(points) * TRAINED_SHARE) :]
    learned = [point for point in points if known_at(point) < predicted[0].timestamp]
    return Split(points, learned, predicted)


def accuracy(log: Log, split: Split) -> None:
    began = time.process_time()
    boosting = QuantileBoostingModel(targets=["duration"])
    boosting.train(split.learned)
    spent = time.process_time() - began
    lags = Lags(split.points)
    by_point = boosting.predict_quantiles([boosting.feature_vector(request_of(p), lags) for p in split.predicted])
    quantiles = [row[DURATION] for row in by_point]
    baseline, *naive = prequential(split)
    rows = [
        baseline,
        *naive,
        Row("the user's own request", [requested_ms(point) for point in split.predicted]),
        *(by_type(model, split) for model in (SimplePredictorModel(), ResourceOptimizerModel())),
        Row("quantile boosting", [row[0.5] for row in quantiles]),
    ]
    actual = [point.duration for point in split.predicted]
    print(f"{log.name}: {len(split.learned):,} jobs learned, the next {len(split.predicted):,} predicted")
    headers = ["model", "jobs", "loss", "skill", f"within {scoring.TOLERANCE}"]
    print(tabulate([scores(row, baseline, actual) for row in rows], headers=headers, floatfmt=".3f"))
    inside = [row[0.1] <= each <= row[0.9] for row, each in zip(quantiles, actual, strict=True)]
    pinball = {
        q: statistics.fmean(
            scoring.pinball_loss(DURATION, row[q], each, q) for row, each in zip(quantiles, actual, strict=True)
        )
        for q in boosting.quantiles
    }
    print(f"Between the quantiles 0.1 and 0.9: {statistics.fmean(inside):.3f} of the jobs (0.8 would be right).")
    print("Pinball loss: " + ", ".join(f"{q}: {loss:.3f}" for q, loss in pinball.items()))
    state = boosting.save() or {}
    size = sum(array.nbytes for array in state["trees"].values())
    print(f"Training: {spent:.1f} s of CPU, of which most makes features; trees: {size / 1024:.0f} KiB\n")


def request_of(point: WorkloadDataPoint) -> dict[str, Any]:
    """Return what a request for the point's job would have said."""
    return {**point.metadata, "type": point.request_type, "timestamp": point.timestamp}


def requested_ms(point: WorkloadDataPoint) -> float | None:
    seconds = point.metadata["request"].get("timeSeconds")
    return None if seconds is None else seconds * 1000.0


def by_type(model: SimplePredictorModel | ResourceOptimizerModel, split: Split) -> Row:
    model.train(split.learned)
    found = (model.predict({"type": point.request_type}).prediction.get(DURATION) for point in split.predicted)
    return Row(model.model_id, list(found))


def prequential(split: Split) -> list[Row]:
    """Return the predictions of the naive models, each given every outcome as soon as it was known."""
    baseline = scoring.RecentOutcomes()
    models = [SeasonalNaiveModel(), SeasonalNaiveModel("seasonal-naive, week", season_ms=WEEK_MS)]
    for model in models:
        model.is_trained = True
    found: list[list[float | None]] = [[] for _ in range(1 + len(models))]
    ended = sorted(split.points, key=known_at)
    first_predicted = len(split.points) - len(split.predicted)
    next_ended = 0
    for index, point in enumerate(split.points):
        while next_ended < len(ended) and known_at(ended[next_ended]) < point.timestamp:
            known = ended[next_ended]
            workload = Request.of_point(known).workload
            baseline.observe(workload, known.request_type, scoring.actual_values(known))
            for model in models:
                model.observe(known)
            next_ended += 1
        if index >= first_predicted:
            found[0].append(baseline.predict(Request.of_point(point).workload, point.request_type, DURATION))
            for model, predictions in zip(models, found[1:], strict=True):
                predictions.append(model.predict(request_of(point)).prediction.get(DURATION))
    names = ["median of the last five (baseline)", *(model.model_id for model in models)]
    return [Row(name, predictions) for name, predictions in zip(names, found, strict=True)]


def scores(row: Row, baseline: Row, actual: Sequence[float]) -> list[object]:
    """Return the table's row: the loss over the jobs that the model predicts, the skill over the same jobs."""
    pairs = [
        (own, other, each)
        for own, other, each in zip(row.predictions, baseline.predictions, actual, strict=True)
        if own is not None and other is not None
    ]
    if not pairs:
        return [row.name, 0, None, None, None]
    losses = [scoring.loss(DURATION, own, each) for own, _, each in pairs]
    of_baseline = [scoring.loss(DURATION, other, each) for _, other, each in pairs]
    within = statistics.fmean(scoring.is_within(DURATION, own, each) for own, _, each in pairs)
    return [row.name, len(pairs), statistics.fmean(losses), scoring.skill(losses, of_baseline), within]


def cost(log: Log, split: Split) -> bool:
    """Print what a prediction costs; return whether one row stays below the limit."""
    model = QuantileBoostingModel(targets=["duration"])
    recent = split.learned[-HISTORY:]
    model.train(recent)
    lags = Lags(recent)
    requests = [request_of(point) for point in split.predicted[:50]]
    vectors = [np.array([model.feature_vector(request, lags)]) for request in requests]
    peers, trees = as_trained(model, recent)
    gap = max(float(np.abs(trees.predict(v) - np.column_stack([p.predict(v) for p in peers])).max()) for v in vectors)
    flat_us, model_us, peer_us = [], [], []
    for round_ in range(ROUNDS):
        vector = vectors[round_ % len(vectors)]
        flat_us.append(cpu_us(trees.predict, vector))
        model_us.append(cpu_us(model.predict_quantiles, vector))
        peer_us.append(cpu_us(lambda rows: [peer.predict(rows) for peer in peers], vector))
    many = np.concatenate(vectors * 20)
    rows = [
        ["flattened trees, one row", *middle_and_p99(flat_us)],
        ["the model, one row (sorted, in milliseconds)", *middle_and_p99(model_us)],
        ["scikit-learn, the same quantiles of the row", *middle_and_p99(peer_us)],
        [f"flattened trees, a row of {len(many):,}", cpu_us(trees.predict, many) / len(many), None],
        [
            f"scikit-learn, a row of {len(many):,}",
            cpu_us(lambda rows: [peer.predict(rows) for peer in peers], many) / len(many),
            None,
        ],
        ["the vector of a request", *middle_and_p99([cpu_us(model.feature_vector, r, lags) for r in requests * 4])],
        [f"taking in a changed history of {len(recent):,}", cpu_us(model.use_history, recent[1:]), None],
    ]
    print(f"{log.name}: {trees.trees} trees of {trees.outputs} quantiles, {trees.columns} columns")
    print(tabulate(rows, headers=["CPU time", "median us", "p99 us"], floatfmt=",.0f"))
    print(f"Largest difference from scikit-learn: {gap:.1e}. Limit of one row: {LIMIT_US:.0f} us.\n")
    return statistics.median(model_us) < LIMIT_US and gap < 1e-9


def as_trained(
    model: QuantileBoostingModel, points: list[WorkloadDataPoint]
) -> tuple[list[HistGradientBoostingRegressor], FlatTrees]:
    """Return scikit-learn's models of the size of ours, fitted to the same, and their trees."""
    features, durations = WorkloadDataset(points).to_numpy("duration", model.feature_schema)
    features[:, np.isnan(features).all(axis=0)] = 0.0
    labels = np.array([scoring.to_logarithm(DURATION, duration) for duration in durations])
    peers = [
        HistGradientBoostingRegressor(
            loss="quantile", quantile=q, max_iter=80, max_leaf_nodes=16, early_stopping=False, random_state=0
        ).fit(features, labels)
        for q in model.quantiles
    ]
    return peers, FlatTrees.of_boosting(peers)


def cpu_us(call: Callable[..., object], *arguments: object) -> float:
    began = time.process_time_ns()
    call(*arguments)
    return (time.process_time_ns() - began) / 1000


def middle_and_p99(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [statistics.median(ordered), ordered[math.ceil(0.99 * len(ordered)) - 1]]


if __name__ == "__main__":
    sys.exit(main())
