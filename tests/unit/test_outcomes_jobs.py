"""What became of Jobs, the Jobs of CronJobs, and single pods that requests name."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from outcomes_cluster import APP, DAY_MS, GIB, HOUR_MS, MINUTE_MS, Cluster, Operator

from engine_ops.history import open_blob
from engine_ops.history.outcomes.collector import OutcomeCollector
from engine_ops.history.outcomes.observation import Observation
from engine_ops.history.outcomes.records import ContainerSpec, Owner


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def operator(cluster: Cluster) -> Operator:
    return Operator(cluster)


def test_a_job_is_joined_when_it_ends(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Job", "train")
    cluster.pass_time(500)
    job = cluster.add_job("train")
    pod = cluster.add_job_pod(job)
    for cpu, memory in ((0.2, 1.0 * GIB), (0.8, 1.5 * GIB), (0.4, 1.2 * GIB)):
        cluster.use(pod, cpu, memory)
        operator.steps(1)
    cluster.end_pod(pod)
    cluster.end_job(job)
    operator.step()
    point = operator.only()
    assert point.success
    assert point.duration == 3 * MINUTE_MS
    assert point.resource_usage == {"cpu": 0.8, "memory": 1.5 * GIB}
    assert point.metadata["workload"] == {"kind": "Job", "namespace": "jobs", "name": "train", "uid": job}
    assert point.metadata["requested"] == {"cpu": 0.5, "memory": GIB}
    assert point.metadata["limits"] == {"cpu": 1.0, "memory": 2 * GIB}
    assert point.metadata["outcome"] == {
        "of": "workload",
        "state": "succeeded",
        "reason": "",
        "closedAt": cluster.now_ms,
        "restarts": 0,
        "oomKills": 0,
        "pods": 1,
        "samples": 3,
        "exitCode": 0,
    }
    assert point.metadata["containers"]["app"]["cpu"]["p50"] == pytest.approx(0.4, rel=0.02)
    assert "censored" not in point.metadata


def test_a_job_that_had_ended_before_the_request_counts(cluster: Cluster, operator: Operator) -> None:
    job = cluster.add_job("train")
    cluster.pass_time(HOUR_MS)
    cluster.end_job(job, "DeadlineExceeded")
    cluster.pass_time(HOUR_MS)
    operator.ask("Job", "train")
    operator.step()
    point = operator.only()
    assert not point.success
    assert point.duration == HOUR_MS
    assert point.metadata["outcome"]["reason"] == "DeadlineExceeded"


def test_failed_pods_of_a_job_that_succeeded_in_the_end_are_told(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Job", "train")
    job = cluster.add_job("train")
    for code, oom in ((137, True), (1, False), (1, False)):
        pod = cluster.add_job_pod(job)
        operator.steps(1)
        cluster.end_pod(pod, code, oom=oom)
    last = cluster.add_job_pod(job)
    operator.steps(2)
    cluster.end_pod(last)
    cluster.end_job(job)
    operator.step()
    point = operator.only()
    outcome = point.metadata["outcome"]
    assert point.success
    assert outcome["oomKills"] == 1
    assert outcome["failures"] == "Error(1) x2, OOMKilled(137)"
    assert outcome["exitCode"] == 1
    assert outcome["pods"] == 4
    assert point.metadata["censored"] == ["memory"]


def test_pods_that_were_deleted_keep_what_was_seen(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Job", "train")
    job = cluster.add_job("train")
    pod = cluster.add_job_pod(job)
    cluster.use(pod, 0.3, GIB)
    cluster.restart(pod, code=137, oom=True)
    operator.steps(1)
    cluster.delete_pod(pod)
    operator.steps(2)
    cluster.end_job(job, "BackoffLimitExceeded")
    operator.step()
    point = operator.only()
    assert point.metadata["outcome"]["restarts"] == 1
    assert point.metadata["outcome"]["oomKills"] == 1
    assert point.metadata["containers"]["app"]["oomKills"] == 1
    assert point.resource_usage["cpu"] == 0.3


def test_pods_that_were_deleted_because_their_job_failed_did_not_fail(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Job", "train")
    job = cluster.add_job("train")
    pod = cluster.add_job_pod(job)
    operator.steps(1)
    cluster.end_pod(pod, 143)
    cluster.change_pod(pod, deleting=True)
    cluster.end_job(job, "DeadlineExceeded")
    operator.step()
    assert "failures" not in operator.only().metadata["outcome"]


def test_a_job_deleted_before_it_ended_is_unknown(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Job", "train")
    job = cluster.add_job("train")
    operator.steps(1)
    cluster.delete_job(job)
    operator.steps(1)
    point = operator.only()
    assert not point.success
    assert math.isnan(point.duration)
    assert point.metadata["outcome"] == {
        "of": "workload",
        "state": "unknown",
        "reason": "Deleted",
        "closedAt": cluster.now_ms,
    }


@pytest.mark.parametrize("seen_before", [True, False])
def test_a_job_deleted_right_after_it_ended_is_known(cluster: Cluster, operator: Operator, seen_before: bool) -> None:
    operator.ask("Job", "train")
    job = cluster.add_job("train")
    if seen_before:
        operator.steps(1)
    cluster.pass_time(MINUTE_MS)
    cluster.end_job(job)
    cluster.delete_job(job)
    operator.steps(1)
    assert operator.only().success


def test_what_was_told_once_survives_that_pods_cannot_be_read(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Job", "train")
    job = cluster.add_job("train")
    cluster.pass_time(MINUTE_MS)
    cluster.end_job(job)
    cluster.delete_job(job)
    cluster.forbidden = {"pods"}
    operator.steps(1)
    assert operator.log.open_points
    operator.flush()
    operator.start()
    operator.steps(4)
    assert operator.log.open_points
    assert "forbidden" in operator.outcomes.trouble
    operator.steps(1)
    assert operator.only().success


def test_of_jobs_of_one_name_the_one_at_the_request_is_meant(cluster: Cluster, operator: Operator) -> None:
    first = cluster.add_job("train")
    cluster.pass_time(MINUTE_MS)
    operator.ask("Job", "train")
    cluster.pass_time(MINUTE_MS)
    cluster.end_job(first)
    cluster.delete_job(first)
    cluster.pass_time(MINUTE_MS)
    cluster.end_job(cluster.add_job("train"), "BackoffLimitExceeded")
    operator.step()
    point = operator.only()
    assert point.success
    assert point.metadata["workload"]["uid"] == first


def test_a_job_made_again_after_it_was_bound_is_another(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Job", "train")
    first = cluster.add_job("train")
    operator.steps(1)
    cluster.delete_job(first)
    cluster.add_job("train")
    operator.steps(1)
    point = operator.only()
    assert point.metadata["workload"]["uid"] == first
    assert point.metadata["outcome"]["reason"] == "Deleted"


def test_a_suspended_job_takes_from_its_last_start(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Job", "train")
    job = cluster.add_job("train", suspended=True)
    operator.steps(2)
    cluster.change_job(job, started_ms=cluster.second)
    operator.steps(2)
    cluster.change_job(job, started_ms=None)
    operator.steps(2)
    cluster.change_job(job, started_ms=cluster.second)
    operator.steps(5)
    cluster.end_job(job)
    operator.step()
    assert operator.only().duration == 5 * MINUTE_MS


@pytest.mark.parametrize(
    ("prepare", "kind", "reason"),
    [
        (lambda _: None, "Job", "WorkloadNotFound"),
        (lambda _: None, "CronJob", "NoJobStarted"),
        (lambda cluster: cluster.add_job("train"), "Job", "StillRunning"),
        (lambda cluster: cluster.add_job("train", suspended=True), "Job", "NotStarted"),
    ],
)
def test_at_the_end_of_the_window_it_is_unknown(cluster: Cluster, operator: Operator, prepare, kind, reason) -> None:
    operator.ask(kind, "train", window_ms=HOUR_MS)
    prepare(cluster)
    operator.steps(50, every=10)
    assert operator.log.open_points
    operator.steps(10, every=10)
    outcome = operator.only().metadata["outcome"]
    assert (outcome["state"], outcome["reason"]) == ("unknown", reason)


def test_a_cron_job_means_the_first_job_after_the_request(cluster: Cluster, operator: Operator) -> None:
    earlier = cluster.add_job("report-1", cron="report")
    cluster.end_job(earlier)
    cluster.pass_time(MINUTE_MS)
    operator.ask("CronJob", "report")
    operator.steps(5)
    other = cluster.add_job("report-2", cron="report")
    cluster.add_job("bill-1", cron="bill")
    cluster.pass_time(2 * MINUTE_MS)
    cluster.add_job("report-3", cron="report")
    cluster.end_job(other)
    operator.step()
    assert operator.only().metadata["workload"] == {
        "kind": "CronJob",
        "namespace": "jobs",
        "name": "report",
        "uid": "cron-report",
        "jobName": "report-2",
        "jobUid": other,
    }


def test_a_job_of_a_cron_job_that_is_named_itself_has_the_cron_jobs_key(cluster: Cluster, operator: Operator) -> None:
    job = cluster.add_job("report-1", cron="report")
    operator.ask("Job", "report-1")
    cluster.end_job(job)
    operator.step()
    workload = operator.only().metadata["workload"]
    assert (workload["kind"], workload["name"], workload["jobName"]) == ("CronJob", "report", "report-1")


def test_of_a_standing_requests_points_the_newest_before_its_end_has_a_job(
    cluster: Cluster, operator: Operator
) -> None:
    operator.ask("Job", "train")
    job = cluster.add_job("train")
    operator.steps(2)
    newer = operator.ask("Job", "train")
    operator.steps(1)
    (older,) = operator.closed
    assert older.metadata["outcome"]["reason"] == "Superseded"
    assert list(operator.log.open_points) == [newer]
    cluster.end_job(job)
    operator.step()
    assert [point.success for point in operator.closed] == [False, True]


def test_a_standing_request_more_frequent_than_its_cron_job_gets_every_job(
    cluster: Cluster, operator: Operator
) -> None:
    running: dict[int, str] = {}
    for minute in range(60):
        if minute % 3 == 0:
            operator.ask("CronJob", "report")
        if minute % 10 == 4:
            running[minute] = cluster.add_job(f"report-{minute}", cron="report")
        if minute % 10 == 3 and minute > 10:
            cluster.end_job(running[minute - 9])
        operator.steps(1)
    told = [point for point in operator.closed if point.metadata["outcome"]["state"] == "succeeded"]
    assert [point.metadata["workload"]["jobUid"] for point in told] == list(running.values())[:5]
    assert all(point.timestamp <= cluster.now_ms for point in told)


def test_parallel_pods_count_each_for_itself(cluster: Cluster, operator: Operator) -> None:
    sidecar = ContainerSpec("proxy", {"cpu": 0.1}, {})
    operator.ask("Job", "train")
    job = cluster.add_job("train", specs=(APP, sidecar))
    pods = [cluster.add_job_pod(job, specs=(APP, sidecar)) for _ in range(3)]
    for pod, cpu in zip(pods, (0.1, 0.6, 0.3), strict=True):
        cluster.use(pod, cpu, GIB)
        cluster.use(pod, 0.05, 0.25 * GIB, "proxy")
    operator.steps(1)
    cluster.use(pods[1], 0.1, GIB)
    cluster.use(pods[1], 0.5, 0.5 * GIB, "proxy")  # later: the containers' peaks are at different moments
    operator.steps(1)
    cluster.end_job(job)
    operator.step()
    point = operator.only()
    assert point.resource_usage == pytest.approx({"cpu": 0.65, "memory": 1.5 * GIB})
    assert point.metadata["containers"]["proxy"]["cpu"]["peak"] == 0.5
    assert point.metadata["requested"] == {"cpu": 0.6, "memory": GIB}


def test_usage_at_a_limit_is_censored(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Job", "train")
    job = cluster.add_job("train")
    pod = cluster.add_job_pod(job)
    cluster.use(pod, 0.96, 1.95 * GIB)
    operator.steps(1)
    cluster.end_job(job)
    operator.step()
    assert operator.only().metadata["censored"] == ["cpu"]


def test_many_containers_are_bounded_and_the_rest_counted(cluster: Cluster, operator: Operator) -> None:
    specs = tuple(ContainerSpec(f"c{number}", {"cpu": 0.1}) for number in range(20))
    operator.ask("Job", "train")
    job = cluster.add_job("train", specs=specs)
    pod = cluster.add_job_pod(job, specs=specs)
    for spec in specs:
        cluster.use(pod, 0.5, GIB, spec.name)
    operator.steps(1)
    cluster.end_job(job)
    operator.step()
    point = operator.only()
    assert point.resource_usage["cpu"] == pytest.approx(10.0)
    assert len(point.metadata["containers"]) == 16
    assert point.metadata["outcome"]["containersLeftOut"] == 4
    assert point.metadata["requested"]["cpu"] == pytest.approx(2.0)


def test_a_restart_of_the_operator_changes_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_blob, "TOUCH_SECONDS", 0)  # it is a minute of real time
    steady, shaken = Operator(cluster), Operator(cluster)
    for operator in (steady, shaken):
        operator.ask("Job", "train", run=1)
    job = cluster.add_job("train")
    pod = cluster.add_job_pod(job)
    for minute in range(30):
        cluster.pass_time(MINUTE_MS)
        cluster.use(pod, 0.1 + minute / 100, GIB)
        if minute % 7 == 3:
            cluster.restart(pod, code=137, oom=minute % 2 == 1)
        steady.step()
        shaken.step()
        if minute % 4 == 2:
            cluster.pass_time(1000)
            shaken.flush()
            shaken.start()
    cluster.end_pod(pod)
    cluster.end_job(job)
    cluster.pass_time(MINUTE_MS)
    steady.step()
    shaken.step()
    first, second = steady.only(), shaken.only()
    assert second.metadata["outcome"] == first.metadata["outcome"]
    assert second.metadata["containers"] == first.metadata["containers"]
    assert (second.duration, second.resource_usage) == (first.duration, first.resource_usage)
    assert first.metadata["outcome"]["restarts"] == 4


def test_while_the_api_server_is_away_nothing_is_lost(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Job", "train", window_ms=10 * MINUTE_MS)
    job = cluster.add_job("train")
    operator.steps(5)
    cluster.down = True
    operator.steps(3)
    cluster.end_job(job)
    operator.steps(10)
    assert operator.outcomes.trouble
    assert operator.log.open_points
    cluster.down = False
    operator.steps(1)
    assert operator.only().duration == 8 * MINUTE_MS
    assert operator.outcomes.trouble == ""


def test_a_source_that_never_answers_is_given_up(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Job", "train", window_ms=HOUR_MS)
    cluster.forbidden = {"jobs"}
    operator.steps(110, every=10)
    assert operator.log.open_points
    operator.steps(10, every=10)
    assert operator.only().metadata["outcome"]["reason"] == "SourceUnavailable"


def test_a_clock_that_steps_back_stops_nothing(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Job", "train")
    job = cluster.add_job("train")
    pod = cluster.add_job_pod(job)
    cluster.use(pod, 0.5, GIB)
    operator.steps(2)
    cluster.pass_time(-2 * HOUR_MS)
    cluster.use(pod, 0.7, GIB)
    operator.steps(2)
    cluster.end_job(job)
    operator.step()
    point = operator.only()
    assert point.duration == 0
    assert point.resource_usage["cpu"] == 0.7
    assert point.metadata["outcome"]["closedAt"] >= point.timestamp


def test_a_thousand_points_ask_once_a_namespace(cluster: Cluster) -> None:
    operator = Operator(cluster, open_capacity=2000)
    for number in range(1000):
        namespace = f"n{number % 3}"
        operator.ask("Job", f"job-{number}", namespace=namespace, uid=f"request-{number}")
        cluster.add_job(f"job-{number}", namespace=namespace)
    operator.step()
    assert cluster.calls == {f"{what} n{number}": 1 for what in ("jobs", "pods", "usage") for number in range(3)}
    cluster.pass_time(2000)
    operator.step()
    assert cluster.calls["jobs n0"] == 2
    assert cluster.calls["pods n0"] == 1  # nothing ended, and it is not yet time for samples


def test_state_stays_small_and_what_is_no_state_is_a_new_one(cluster: Cluster, operator: Operator) -> None:
    key = operator.ask("Job", "train")
    specs = tuple(dataclasses.replace(APP, name=f"container-{number}") for number in range(16))
    job = cluster.add_job("train", specs=specs)
    pods = [cluster.add_job_pod(job, specs=specs) for _ in range(20)]
    for minute in range(100):
        for pod in pods[:2]:
            for spec in specs:
                cluster.use(pod, 10 ** (minute % 30 / 10 - 2), GIB * (1 + minute % 17), spec.name)
                cluster.restart(pod, spec.name)
        operator.steps(1)
    state = operator.log.open_points[key].state
    assert len(json.dumps(state)) < 24_000
    assert Observation.from_json(json.loads(json.dumps(state))).to_json() == state
    for broken in (
        None,
        [],
        {"v": 2},
        {"v": 1, "usage": 3},
        {"v": 1, "run": {"uid": 1, "odd": 2}},
        {"v": 1, "pods": "x"},
    ):
        assert Observation.from_json(broken).to_json() == {"v": 1}


def test_a_state_that_cannot_be_recorded_stops_nothing(cluster: Cluster, operator: Operator) -> None:
    key = operator.ask("Job", "train")
    job = cluster.add_job("train")
    operator.step()
    state = operator.log.open_points[key].state
    state["asked"] = [{"cpu\udc80": 1.0}, {}]  # no Unicode text
    operator.outcomes = OutcomeCollector(operator.log, cluster, clock=lambda: cluster.now_ms)
    cluster.end_job(job)
    operator.steps(1)
    assert operator.only().metadata["outcome"]["reason"] == "Unreadable"


def test_a_pod_is_joined_when_it_ends(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Pod", "notebook")
    pod = cluster.add_pod("notebook", namespace="jobs")
    cluster.use(pod, 0.5, GIB)
    operator.steps(10)
    cluster.end_pod(pod, 137, oom=True)
    operator.steps(1)
    point = operator.only()
    assert not point.success
    assert point.duration == 10 * MINUTE_MS
    assert point.metadata["outcome"]["reason"] == "OOMKilled"
    assert point.metadata["outcome"]["exitCode"] == 137
    assert point.metadata["workload"]["uid"] == pod
    assert point.metadata["censored"] == ["memory"]


def test_a_pod_made_again_under_its_name_is_another(cluster: Cluster, operator: Operator) -> None:
    operator.ask("Pod", "web-0")
    owner = Owner("StatefulSet", "web", "sts")
    pod = cluster.add_pod("web-0", owner, namespace="jobs")
    operator.steps(1)
    cluster.delete_pod(pod)
    cluster.add_pod("web-0", owner, namespace="jobs")
    operator.steps(1)
    assert operator.only().metadata["outcome"]["reason"] == "Deleted"


def test_a_pod_that_runs_on_is_judged_at_the_end_of_the_window(cluster: Cluster, operator: Operator) -> None:
    cluster.add_pod("web-0", namespace="jobs")
    cluster.pass_time(HOUR_MS)
    operator.ask("Pod", "web-0", window_ms=DAY_MS)
    operator.steps(24 * 60, every=60)
    point = operator.only()
    assert point.success
    assert point.metadata["outcome"]["state"] == "running"
    assert point.duration == DAY_MS
