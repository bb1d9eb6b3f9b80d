"""The jobs of a log as a history and as requests, and what models that nobody trains would have said of them."""

from __future__ import annotations

import dataclasses
import gzip
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine_ops.history.formats.source import Source
from engine_ops.history.formats.swf import read_swf
from engine_ops.ml import WorkloadDataPoint, scoring
from engine_ops.ml.examples import SimplePredictorModel
from engine_ops.ml.keys import known_at
from engine_ops.ml.models import SeasonalNaiveModel
from engine_ops.ml.request import Request
from engine_ops.ml.scoring import DURATION

REQUEST_TYPE = "ml-driven"
"""Of the points as well as of the requests: what is learned of one type says nothing of another."""

SHOWN_DIGEST = len("sha256:") + 11
"""Characters of a digest that a status shows at least."""


@dataclasses.dataclass(frozen=True, slots=True)
class Jobs:
    """A log in the order of its submit times, cut in two.

    Parameters
    ----------
    points
        All jobs.
    learned
        Those whose outcome was known when the first of the predicted ones was submitted.
    predicted
        The rest of the log, by submit time.
    """

    points: list[WorkloadDataPoint]
    learned: list[WorkloadDataPoint]
    predicted: list[WorkloadDataPoint]

    @property
    def later(self) -> list[WorkloadDataPoint]:
        """Those that are not learned: they ended after the cut."""
        learned = {id(point) for point in self.learned}
        return [point for point in self.points if id(point) not in learned]


def jobs_of(points: Iterable[WorkloadDataPoint], share: float) -> Jobs:
    """Cut jobs in two; the first ``share`` by submit time are learned, as far as they had ended by then."""
    ordered = sorted(points, key=lambda point: point.timestamp)
    first = ordered[int(len(ordered) * share) :]
    return Jobs(ordered, [point for point in ordered if known_at(point) < first[0].timestamp], first)


def read_log(path: Path, counts: Callable[[WorkloadDataPoint], bool]) -> list[WorkloadDataPoint]:
    """Return the points of a job log, those that count."""
    return [point for point in read_swf(Source.of(path), request_type=REQUEST_TYPE) if counts(point)]


def sample(points: Sequence[WorkloadDataPoint], count: int | None, seed: int) -> list[WorkloadDataPoint]:
    """Return so many of the points, in their order; all for None."""
    if count is None or count >= len(points):
        return list(points)
    return [points[index] for index in sorted(random.Random(seed).sample(range(len(points)), count))]


def write_log(path: Path, log: Path, points: Sequence[WorkloadDataPoint]) -> None:
    """Write the rows that the points were read from, and the log's comments, as a log of its own.

    Raises
    ------
    ValueError
        If two rows have one job number.
    """
    with gzip.open(log, "rt", encoding="utf-8") as file:
        lines = file.readlines()
    comments = [line for line in lines if line.lstrip().startswith(";")]
    rows = [line for line in lines if line.strip() and not line.lstrip().startswith(";")]
    by_job = {int(line.split(maxsplit=1)[0]): line for line in rows}
    if len(by_job) != len(rows):
        raise ValueError(f"{log.name}: {len(rows) - len(by_job)} rows have the job number of another")
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        file.writelines(comments)
        file.writelines(by_job[point.metadata["job"]] for point in points)


def data_of(point: WorkloadDataPoint) -> dict[str, Any]:
    """Return the ``data`` of a request for the point's job: what was known when it was submitted, and nothing else."""
    known = ("workload", "request", "requested")
    return {
        "timestamp": point.timestamp,
        **{name: point.metadata[name] for name in known if name in point.metadata},
    }


def encoded_request(name: str, point: WorkloadDataPoint) -> bytes:
    """Return the `OptimizationRequest` for the point's job as JSON."""
    return msgspec.json.encode(
        {
            "apiVersion": "engineops.dev/v1alpha1",
            "kind": "OptimizationRequest",
            "metadata": {"name": name},
            "spec": {"type": REQUEST_TYPE, "data": data_of(point)},
        }
    )


def requested_ms(point: WorkloadDataPoint) -> float | None:
    """Return how long the user asked for."""
    seconds = point.metadata["request"].get("timeSeconds")
    return None if seconds is None else seconds * 1000.0


@dataclasses.dataclass(frozen=True, slots=True)
class Naive:
    """What is predicted without training, in milliseconds; each of what was known when the job was submitted."""

    last_two: float
    baseline: float | None
    seasonal: float | None
    averages: float | None


def naive(jobs: Jobs) -> Iterator[Naive]:
    """Yield what is predicted for each of the predicted jobs.

    ``last_two`` is the mean of the user's last two run times, the median of all learned ones where there is none;
    ``baseline`` is `scoring.RecentOutcomes`, ``seasonal`` a `SeasonalNaiveModel` by the day; ``averages`` is what
    answers without any plugin, `SimplePredictorModel` of the learned jobs.
    """
    lasts: dict[str | None, list[float]] = {}
    usual = scoring.median([point.duration for point in jobs.learned])
    baseline, seasonal, averages = scoring.RecentOutcomes(), SeasonalNaiveModel(), SimplePredictorModel()
    seasonal.is_trained = True
    averages.train(jobs.learned)
    ended = iter(sorted(jobs.points, key=known_at))
    newest = next(ended, None)
    for point in jobs.predicted:
        request = Request.of_point(point)
        while newest is not None and known_at(newest) < point.timestamp:
            of = Request.of_point(newest)
            baseline.observe(of.workload, of.type, scoring.actual_values(newest))
            seasonal.observe(newest)
            lasts[of.owner] = [*lasts.get(of.owner, ()), newest.duration][-2:]
            newest = next(ended, None)
        two = lasts.get(request.owner)
        question = {**data_of(point), "type": REQUEST_TYPE}
        yield Naive(
            sum(two) / len(two) if two else usual,
            baseline.predict(request.workload, request.type, DURATION),
            seasonal.predict(question).prediction.get(DURATION),
            averages.predict(question).prediction.get(DURATION),
        )


def error(predicted_ms: Sequence[float | None], points: Sequence[WorkloadDataPoint]) -> float:
    """Return the mean absolute difference of ln(1 + seconds).

    Raises
    ------
    ValueError
        If there is no prediction for a job: a mean over others compares with nothing.
    """
    total = 0.0
    for value, point in zip(predicted_ms, points, strict=True):
        if value is None:
            raise ValueError(f"job {point.metadata['job']} has no prediction")
        total += abs(math.log1p(value / 1000) - math.log1p(point.duration / 1000))
    return total / len(points)


def is_digest_of(shown: str, digest: str) -> bool:
    """Return whether a status, which may cut a digest off, shows this one."""
    kept = shown.rstrip("….")
    return len(kept) >= SHOWN_DIGEST and digest.startswith(kept)


def faults_of(requests: Mapping[str, Mapping[str, Any]], plugin: str) -> list[str]:
    """Return what is wrong with the answers: a sentence for each request that the plugin did not answer."""
    found = []
    for name, request in requests.items():
        status = request.get("status", {})
        solved_by = status.get("solvedBy", {})
        if solved_by.get("plugin") != plugin:
            found.append(f"{name}: not answered by {plugin}: {solved_by or status.get('conditions')}")
        elif not isinstance(status.get("result", {}).get(DURATION), int | float):
            found.append(f"{name}: no {DURATION} in its result: {status.get('result')}")
    return found
