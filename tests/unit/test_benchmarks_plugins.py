"""A job log as a history and as requests: these say what was known, and no yardstick sees a later outcome."""

from __future__ import annotations

import gzip
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.ml import WorkloadDataPoint, WorkloadDataset
from engine_ops.ml.keys import known_at
from engine_ops.ml.lags import Lags

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from plugins import atlas, atlas_jobs

BEGAN = 1_163_199_901
COMMENTS = f"; Version: 2.2\n; UnixStartTime: {BEGAN}\n"


def row(job: int, submit: int, run: int, *, asked: int = 3600, user: int = 7, executable: int = 1) -> str:
    return f"{job} {submit} -1 {run} 8 -1 -1 8 {asked} -1 1 {user} -1 {executable} -1 1 -1 -1\n"


def any_job(_point: WorkloadDataPoint) -> bool:
    return True


def points_of(path: Path, rows: list[str]) -> list[WorkloadDataPoint]:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(COMMENTS + "".join(rows))
    return atlas_jobs.read_log(path, any_job)


def jobs(rows: list[tuple[int, int, int]], share: float = 0.5) -> atlas_jobs.Jobs:
    """Return jobs of (submit time, run time, user), cut in two."""
    made = [_point(job, submit, run, user) for job, (submit, run, user) in enumerate(rows)]
    return atlas_jobs.jobs_of(made, share)


def _point(job: int, submit: int, run: int, user: int) -> WorkloadDataPoint:
    submitted_ms = (BEGAN + submit) * 1000
    metadata = {
        "job": job,
        "workload": {"namespace": f"user-{user}", "kind": "Executable", "name": "1"},
        "request": {"user": str(user), "processors": 8, "timeSeconds": 3600},
        "requested": {"cpu": 8.0},
        "outcome": {"of": "import", "state": "succeeded", "closedAt": submitted_ms + run * 1000},
    }
    return WorkloadDataPoint(submitted_ms, "ml-driven", {}, run * 1000.0, True, metadata)


STEADY = [(100 * number, 10 + number % 3, number % 2) for number in range(40)]


def test_a_part_of_a_log_is_read_back_as_the_same_points(tmp_path: Path) -> None:
    log, part = tmp_path / "log.swf.gz", tmp_path / "part.swf.gz"
    read = points_of(log, [row(number, 10 * number, 60) for number in range(1, 9)])
    chosen = [read[5], read[1], read[2]]
    atlas_jobs.write_log(part, log, chosen)
    assert atlas_jobs.read_log(part, any_job) == chosen
    assert chosen[0].timestamp == (BEGAN + 60) * 1000  # the comments came along


def test_two_rows_of_one_job_are_not_mixed_up(tmp_path: Path) -> None:
    log = tmp_path / "log.swf.gz"
    read = points_of(log, [row(1, 10, 60), row(1, 20, 60)])
    with pytest.raises(ValueError, match="1 rows have the job number of another"):
        atlas_jobs.write_log(tmp_path / "part.swf.gz", log, read)


def test_what_ended_after_the_cut_is_not_learned() -> None:
    split = jobs([(0, 50, 1), (10, 500, 1), (100, 5, 1), (200, 5, 1)])
    assert [point.metadata["job"] for point in split.learned] == [0]
    assert [point.metadata["job"] for point in split.predicted] == [2, 3]
    assert [point.metadata["job"] for point in split.later] == [1, 2, 3]


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 5000), st.integers(0, 3)), min_size=2, max_size=40))
def test_everything_is_learned_or_imported_later_and_nothing_twice(rows: list[tuple[int, int, int]]) -> None:
    split = jobs(rows)
    numbers = sorted(point.metadata["job"] for point in [*split.learned, *split.later])
    assert numbers == list(range(len(rows)))
    cut = split.predicted[0].timestamp
    assert all(known_at(point) < cut for point in split.learned)
    assert all(known_at(point) >= cut for point in split.later)


def test_a_request_says_nothing_of_what_became_of_its_job() -> None:
    point = _point(3, 100, 77, 2)
    changed = WorkloadDataPoint.from_dict(
        {
            **point.to_dict(),
            "duration": 5.0,
            "success": False,
            "resourceUsage": {"memory": 9.0},
            "metadata": {**point.metadata, "outcome": {"state": "failed", "closedAt": 0}, "waitMs": 4, "allocated": {}},
        }
    )
    assert atlas_jobs.encoded_request("one", changed) == atlas_jobs.encoded_request("one", point)


def test_the_vector_of_a_request_is_that_of_training() -> None:
    split = jobs(STEADY)
    dataset = WorkloadDataset(split.points)
    vectors, _ = dataset.to_features_labels("duration")
    lags = Lags(split.points)
    assert any(not math.isnan(value) for value in vectors[-1][3:])
    for point, vector in zip(split.points, vectors, strict=True):
        served = dataset.features({**atlas.seen(point), "constraints": None}, lags)
        assert list(map(str, served)) == list(map(str, vector))  # as text NaN is equal to NaN


def test_in_process_predicts_the_asked_jobs_in_their_order() -> None:
    split = jobs(STEADY)
    backwards = split.predicted[::-1]
    forward, backward = atlas.in_process(split, split.predicted), atlas.in_process(split, backwards)
    assert forward.predictions == backward.predictions[::-1]
    assert forward.digest == backward.digest
    assert forward.vectors_checked == len(split.predicted)


def test_naive_models_see_outcomes_that_were_known() -> None:
    # The user's jobs: of 10 s and 30 s; of 1,000 s, which is not over at 200 s, and is at 1,200 s; of 1 s.
    rows = [*((number, 20, 9) for number in range(10)), (20, 10, 1), (40, 30, 1), (100, 1000, 1)]
    split = jobs([*rows, (200, 1, 1), (1200, 1, 1), (1300, 1, 5)], share=13 / 16)
    second, third, fourth = atlas_jobs.naive(split)
    assert second.last_two == 20_000.0
    assert second.baseline == 20_000.0  # the median of 10 s and 30 s, of this workload
    assert third.last_two == 500_500.0
    assert fourth.last_two == 20_000.0  # the median of all that was learned: nothing is known of the user
    assert fourth.averages is not None


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 500), st.integers(0, 2)), min_size=12, max_size=30))
def test_no_naive_model_looks_at_what_was_not_known(rows: list[tuple[int, int, int]]) -> None:
    early = [(0, 1, 0)] * 12
    split = jobs([*early, *((submit + 5, run, user) for submit, run, user in rows)], share=12 / (12 + len(rows)))
    last = split.predicted[-1]
    known = [point for point in split.points if known_at(point) < last.timestamp]
    alone = atlas_jobs.Jobs([*known, last], split.learned, [last])
    assert list(atlas_jobs.naive(split))[-1] == next(atlas_jobs.naive(alone))


def test_the_error_is_that_of_logarithms_of_seconds() -> None:
    points = [_point(0, 0, 0, 1), _point(1, 0, 9, 1)]
    assert atlas_jobs.error([1000.0 * (math.e - 1), 9000.0], points) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="job 1 has no prediction"):
        atlas_jobs.error([1.0, None], points)


def test_a_sample_is_repeatable_and_keeps_the_order() -> None:
    points = jobs(STEADY).points
    chosen = atlas_jobs.sample(points, 7, 1)
    assert chosen == atlas_jobs.sample(points, 7, 1) != atlas_jobs.sample(points, 7, 2)
    assert len(chosen) == 7
    assert [point.timestamp for point in chosen] == sorted(point.timestamp for point in chosen)
    assert atlas_jobs.sample(points, None, 1) == atlas_jobs.sample(points, 400, 1) == points


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"solvedBy": {"plugin": "p"}, "result": {"expected_duration": 3.5}}, None),
        ({"solvedBy": {"name": "simple-predictor"}, "result": {"expected_duration": 3.5}}, "not answered by p"),
        ({"solvedBy": {"plugin": "p"}, "result": {}}, "no expected_duration"),
        ({}, "not answered by p"),
    ],
)
def test_answers_of_others_do_not_pass_for_the_plugins(status: dict[str, Any], said: str | None) -> None:
    faults = atlas_jobs.faults_of({"job-1": json.loads(json.dumps({"status": status}))}, "p")
    assert len(faults) == (said is not None)
    assert said is None or said in faults[0]


def test_a_digest_that_is_cut_off_is_told_from_another() -> None:
    digest = "sha256:" + "0123456789abcdef" * 4
    assert all(atlas_jobs.is_digest_of(shown, digest) for shown in (digest, digest[:19], digest[:18] + "…"))
    assert not any(
        atlas_jobs.is_digest_of(shown, digest) for shown in ("", "sha256:", "sha256:0123456789ac", digest[:12])
    )
