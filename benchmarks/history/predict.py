"""How well the run times of real jobs can be learned from the features of a data set.

python benchmarks/history/predict.py --data ../shared/data

A job's label is ln(1 + run time in seconds). scikit-learn's histogram gradient boosting, with its defaults but for the
loss, learns the first 80 % of the jobs by submit time; reported is the mean absolute difference over the last 20 %.
Beside it, the mean of the user's last two run times. The columns are fitted to the first 80 %, too. A run time counts
only once its job has ended; the rows "at submit" show what the same would give if every run time were known at once,
which is never so.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor
from tabulate import tabulate

from engine_ops.history.formats.source import Source
from engine_ops.history.formats.swf import read_swf
from engine_ops.ml import WorkloadDataPoint, WorkloadDataset
from engine_ops.ml.features import FeatureSchema
from engine_ops.ml.keys import known_at

TRAINED_SHARE = 0.8
SEEDS = range(5)
"""scikit-learn sets a tenth of the jobs aside at random to decide when to stop."""


class Log(NamedTuple):
    """A job log, and which of its jobs are compared."""

    name: str
    file: str
    jobs: Callable[[WorkloadDataPoint], bool]
    which: str


def all_jobs(_point: WorkloadDataPoint) -> bool:
    return True


def asked_for_time(point: WorkloadDataPoint) -> bool:
    return "timeSeconds" in point.metadata["request"]


LOGS = (
    # The figure to compare with, 1.65 for the last two, is that of these jobs; that of all is 1.70.
    Log("Atlas", "LLNL-Atlas-2006-2.1-cln.swf.gz", asked_for_time, "with a requested time"),
    Log("Atlas", "LLNL-Atlas-2006-2.1-cln.swf.gz", all_jobs, "all"),
    Log("NASA", "NASA-iPSC-1993-3.1-cln.swf.gz", all_jobs, "all"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="where swf/ is")
    arguments = parser.parse_args()
    rows = []
    for log in LOGS:
        path = arguments.data / "swf" / log.file
        if path.exists():
            rows += compare(log, path)
        else:
            print(f"Skipped {log.name}: there is no {path}.")
    if rows:
        headers = ["log", "jobs", "outcomes known", "last two", "no lags", "lags", "lags, seeds", "columns", "CPU s"]
        print(tabulate(rows, headers=headers, floatfmt=".3f"))
        print("Mean absolute difference of ln(1 + s) over the last 20 % by submit time; lags: median of 5 seeds.")
        print("CPU s: to_features_labels of all these jobs.")


def compare(log: Log, path: Path) -> list[list[object]]:
    points = sorted((p for p in read_swf(Source.of(path)) if log.jobs(p)), key=lambda point: point.timestamp)
    count = f"{len(points):,} {log.which}"
    return [
        [log.name, count, "when it ended", *measure(points)],
        [log.name, count, "at submit (wrong)", *measure([known_at_submit(point) for point in points])],
    ]


def known_at_submit(point: WorkloadDataPoint) -> WorkloadDataPoint:
    outcome = {**point.metadata["outcome"], "closedAt": point.timestamp}
    return WorkloadDataPoint.from_dict({**point.to_dict(), "metadata": {**point.metadata, "outcome": outcome}})


def measure(points: list[WorkloadDataPoint]) -> list[object]:
    dataset = WorkloadDataset(points)
    began = time.process_time()
    schema = FeatureSchema.fit(points[: int(len(points) * TRAINED_SHARE)])
    features, durations_ms = dataset.to_numpy("duration", schema)
    spent = time.process_time() - began
    labels = np.log1p(durations_ms / 1000)
    asked = [column.source != "lag" for column in schema.columns]
    errors = sorted(boosting_error(features, labels, seed) for seed in SEEDS)
    return [
        last_two_error(points),
        statistics.median(boosting_error(features[:, asked], labels, seed) for seed in SEEDS),
        statistics.median(errors),
        f"{errors[0]:.3f} to {errors[-1]:.3f}",
        len(asked),
        spent,
    ]


def boosting_error(features: npt.NDArray[np.float64], labels: npt.NDArray[np.float64], seed: int) -> float:
    split = int(len(labels) * TRAINED_SHARE)
    model = HistGradientBoostingRegressor(loss="absolute_error", random_state=seed)
    model.fit(features[:split], labels[:split])
    return float(np.abs(model.predict(features[split:]) - labels[split:]).mean())


def last_two_error(points: list[WorkloadDataPoint]) -> float:
    """Return the error of the mean of the user's last two run times, in seconds; the median of all where none is known.

    Written without the features' code, so that each checks the other.
    """
    split = int(len(points) * TRAINED_SHARE)
    fallback = statistics.median(point.duration for point in points[:split])
    ended = sorted(range(len(points)), key=lambda index: (known_at(points[index]), index))
    by_user: dict[str, list[float]] = {}
    errors = []
    next_ended = 0
    for index, point in enumerate(points):
        while next_ended < len(ended) and known_at(points[ended[next_ended]]) <= point.timestamp:
            # A job of 0 s ends as it is submitted; it is not known before itself.
            if ended[next_ended] >= index:
                break
            known = points[ended[next_ended]]
            by_user.setdefault(user(known), []).append(known.duration)
            next_ended += 1
        if index >= split:
            predicted_ms = mean(by_user.get(user(point), [])[-2:], fallback)
            errors.append(abs(math.log1p(predicted_ms / 1000) - math.log1p(point.duration / 1000)))
    return statistics.fmean(errors)


def user(point: WorkloadDataPoint) -> str:
    return str(point.metadata["request"].get("user"))


def mean(values: Iterable[float], otherwise: float) -> float:
    kept = list(values)
    return statistics.fmean(kept) if kept else otherwise


if __name__ == "__main__":
    main()
