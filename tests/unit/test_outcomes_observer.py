"""Jobs and daily usage that are recorded without a request."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes_cluster import DAY_MS, GIB, HOUR_MS, MINUTE_MS, START_MS, Cluster, Operator

from engine_ops.history.outcomes import observer as observing
from engine_ops.history.outcomes.records import Owner
from engine_ops.ml.data_point import WorkloadDataPoint


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.observed = ["jobs"]
    return cluster


@pytest.fixture
def operator(cluster: Cluster) -> Operator:
    return Operator(cluster, observe=True)


def daily(operator: Operator) -> list[WorkloadDataPoint]:
    return [point for point in operator.closed if point.request_type == "observed-usage"]


def jobs_recorded(operator: Operator) -> Counter[str]:
    return Counter(point.metadata["uid"] for point in operator.closed if point.request_type == "observed-job")


def test_a_job_is_recorded_with_what_it_used(cluster: Cluster, operator: Operator) -> None:
    operator.step()
    job = cluster.add_job("report-1", cron="report")
    pod = cluster.add_job_pod(job)
    cluster.use(pod, 0.4, GIB)
    operator.steps(5)
    cluster.end_pod(pod, 2)
    cluster.end_job(job, "BackoffLimitExceeded")
    operator.steps(1)
    (point,) = operator.closed
    assert point.request_type == "observed-job"
    assert (point.metadata["uid"], point.metadata["generation"], point.metadata["run"]) == (job, 1, 1)
    assert (point.metadata["namespace"], point.metadata["name"]) == ("jobs", "report")
    assert point.metadata["workload"]["kind"] == "CronJob"
    assert point.metadata["workload"]["jobName"] == "report-1"
    assert point.metadata["outcome"]["reason"] == "BackoffLimitExceeded"
    assert point.metadata["outcome"]["exitCode"] == 2
    assert point.duration == 5 * MINUTE_MS
    assert point.resource_usage == {"cpu": 0.4, "memory": GIB}
    assert point.metadata["requested"]["cpu"] == 0.5


def test_jobs_that_had_ended_before_are_recorded_once_over_restarts(cluster: Cluster, operator: Operator) -> None:
    job = cluster.add_job("old")
    cluster.pass_time(HOUR_MS)
    cluster.end_job(job)
    for _ in range(3):
        operator.steps(3)
        operator.flush()
        operator.start()
        operator.flush()
    assert jobs_recorded(operator) == {job: 1}


def test_jobs_that_ended_before_the_option_was_turned_on_are_recorded_once(cluster: Cluster) -> None:
    job = cluster.add_job("old")
    cluster.end_job(job)
    operator = Operator(cluster)
    for _ in range(3):
        cluster.pass_time(HOUR_MS)
        operator.flush()  # the watermark is far above the Job's end
    operator = Operator(cluster, observe=True, store=operator.store)
    for _ in range(2):
        operator.steps(3)
        operator.flush()
        operator.start()
    assert jobs_recorded(operator) == {job: 1}


def test_what_has_left_the_ring_is_not_recorded_again(cluster: Cluster) -> None:
    operator = Operator(cluster, observe=True, capacity=6)  # every flush adds a point
    jobs = []
    for number in range(8):
        jobs.append(cluster.add_job(f"job-{number}"))
        cluster.pass_time(MINUTE_MS)
        cluster.end_job(jobs[-1])
        operator.steps(3)
        operator.flush()
    for _ in range(2):
        operator.start()
        operator.steps(3)
        operator.flush()
    assert jobs_recorded(operator) == dict.fromkeys(jobs[-2:], 1)


def test_jobs_that_ended_while_the_operator_was_away_are_recorded(cluster: Cluster, operator: Operator) -> None:
    job = cluster.add_job("long")
    operator.steps(2)
    operator.flush()
    cluster.pass_time(HOUR_MS)
    cluster.end_job(job)
    cluster.pass_time(HOUR_MS)
    operator.start()
    operator.flush()  # a flush before the first look must not raise the watermark over the Job's end
    operator.steps(1)
    assert jobs_recorded(operator) == {job: 1}


def test_a_job_that_a_request_names_is_not_recorded_twice(cluster: Cluster, operator: Operator) -> None:
    operator.step()
    operator.ask("Job", "train")
    job = cluster.add_job("train")
    operator.steps(2)
    cluster.end_job(job)
    operator.step()
    assert [point.request_type for point in operator.closed] == ["resource"]
    operator.flush()  # the watermark is still below the Job's end
    operator.start()
    operator.steps(3)
    assert [point.request_type for point in operator.closed] == ["resource"]


def test_the_clusters_clock_may_be_behind(cluster: Cluster, operator: Operator) -> None:
    operator.steps(2)
    operator.flush()
    job = cluster.add_job("skewed")
    operator.steps(2)
    operator.flush()
    cluster.change_job(job, finished_ms=cluster.now_ms - HOUR_MS, succeeded=True)
    operator.steps(2)
    assert jobs_recorded(operator) == {job: 1}


def test_the_clusters_clock_may_be_a_little_behind_for_jobs_not_seen_running(
    cluster: Cluster, operator: Operator
) -> None:
    operator.steps(2)
    cluster.pass_time(45_000)
    job = cluster.add_job("short")
    cluster.change_job(job, finished_ms=cluster.now_ms - 80_000, succeeded=True)
    operator.flush()
    operator.steps(1)
    assert jobs_recorded(operator) == {job: 1}


def test_other_namespaces_are_left_alone(cluster: Cluster, operator: Operator) -> None:
    cluster.end_job(cluster.add_job("other", namespace="private"))
    operator.steps(3)
    assert not operator.closed
    assert not [call for call in cluster.calls if "private" in call]


def test_nothing_is_observed_unless_asked(cluster: Cluster) -> None:
    operator = Operator(cluster)
    cluster.end_job(cluster.add_job("job"))
    operator.steps(3)
    assert not operator.closed
    assert not cluster.calls


def test_a_job_whose_pods_cannot_be_read_is_recorded_without(cluster: Cluster, operator: Operator) -> None:
    operator.step()
    job = cluster.add_job("job")
    operator.steps(1)
    cluster.end_job(job)
    cluster.delete_job(job)
    cluster.forbidden = {"pods"}
    operator.steps(10)
    assert jobs_recorded(operator) == {job: 1}


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from(["add", "end", "end", "delete", "step", "step", "flush", "kill", "away", "back"]), max_size=60
    )
)
def test_every_job_is_recorded_once_whatever_happens(script: list[str]) -> None:
    cluster = Cluster()
    cluster.observed = ["jobs"]
    operator = Operator(cluster, observe=True)
    running: list[str] = []
    ended: list[str] = []
    for number, event in enumerate(script):
        cluster.pass_time(40_000)
        if event == "add":
            running.append(cluster.add_job(f"job-{number}"))
        elif event == "end" and running:
            ended.append(running.pop(0))
            cluster.end_job(ended[-1])
        elif event == "delete" and running:
            cluster.delete_job(running.pop())
        elif event == "step":
            operator.step()
        elif event == "flush":
            operator.flush()
        elif event == "kill":
            operator.start()
        else:
            cluster.down = event == "away"
    cluster.down = False
    operator.steps(2)
    assert jobs_recorded(operator) == dict.fromkeys(ended, 1)


def test_the_usage_of_a_day_is_a_point_of_each_workload(cluster: Cluster, operator: Operator) -> None:
    shop = cluster.add_service("shop", namespace="jobs")
    web = cluster.add_web_pod("shop", namespace="jobs")
    db = cluster.add_pod("db-0", Owner("StatefulSet", "db", "sts-db"), namespace="jobs")
    bare = cluster.add_pod("notebook", namespace="jobs")
    unmeasured = cluster.add_pod("other", namespace="jobs")
    cron = cluster.add_job_pod(cluster.add_job("report-1", cron="report"))
    for number, pod in enumerate((web, db, bare, cron)):
        cluster.use(pod, 0.1 * (number + 1), GIB)
    operator.steps(24 * 60 + 30, every=10)
    points = {point.metadata["workload"]["name"]: point for point in daily(operator)}
    assert {name: point.metadata["uid"] for name, point in points.items()} == {
        "shop": shop,
        "db": "sts-db",
        "notebook": bare,
        "report": "cron-report",
    }
    assert unmeasured not in {point.metadata["uid"] for point in points.values()}
    point = points["shop"]
    assert point.metadata["workload"]["kind"] == "Deployment"
    assert (point.metadata["generation"], point.metadata["run"]) == (0, START_MS // DAY_MS)
    assert point.resource_usage == {"cpu": 0.1, "memory": GIB}
    assert point.timestamp + point.duration == (START_MS // DAY_MS + 1) * DAY_MS
    assert point.success
    assert points["notebook"].metadata["workload"]["kind"] == "Pod"
    assert len(operator.log.open_points) == 4  # the next day's
    assert not any(math.isnan(point.duration) for point in points.values())


def test_a_day_is_one_point_over_restarts(cluster: Cluster, operator: Operator) -> None:
    bare = cluster.add_pod("notebook", namespace="jobs")
    cluster.use(bare, 0.5, GIB)
    for hour in range(38):
        operator.steps(60, every=20)
        if hour % 3 == 0:
            operator.flush()
            operator.start()
    assert Counter(point.metadata["run"] for point in daily(operator)) == {START_MS // DAY_MS: 1}


def test_so_many_workloads_a_day_and_no_more(
    cluster: Cluster, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "MAX_DAILY", 5)
    for number in range(8):
        cluster.use(cluster.add_pod(f"pod-{number}", namespace="jobs"), 0.1, GIB)
    operator.steps(2)
    assert len(operator.log.open_points) == 5
    assert operator.outcomes.left_out == 3
