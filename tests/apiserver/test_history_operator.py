"""What the operator records, as its user exports it."""

from __future__ import annotations

import datetime
import json
import time

import pytest
import yaml
from history_objects import WAIT_SECONDS, HistoryObjects, key_of
from history_objects import job as job_of
from metrics_api import MetricsApi
from operator_process import OperatorProcess, StartOperator
from request_objects import SMALL, RequestObjects
from waiting import wait_until

from engine_ops.devcluster import DevCluster

QUICK = ("--history-flush-seconds=0.2", "--usage-period-seconds=1")


@pytest.fixture
def requests(cluster: DevCluster, namespace: str) -> RequestObjects:
    return RequestObjects(cluster, namespace)


@pytest.fixture
def history(cluster: DevCluster, namespace: str) -> HistoryObjects:
    return HistoryObjects(cluster, namespace)


def make_job(requests: RequestObjects, name: str, run_for: str, outcome: str | None = None, **annotations: str) -> None:
    requests.kubectl("apply", "-f", "-", stdin=json.dumps(job_of(name, run_for, outcome, **annotations)))


def test_each_finished_solve_is_one_point(
    start_operator: StartOperator, requests: RequestObjects, history: HistoryObjects
) -> None:
    start_operator(*QUICK)
    requests.resource("a", {**SMALL, "team": "shop", "priority": 3})
    first = requests.wait_reason("a", "InvalidData")
    requests.resource("a", {**SMALL, "nodeCapacity": {"cpu": 1, "memory": "8Gi"}})
    requests.resource("b", {"items": [{"id": "x", "cpu": "lots"}]})
    requests.wait_reason("b", "InvalidData")
    points = history.wait(lambda found: len(found) >= 3)
    assert len({key_of(point) for point in points}) == len(points) == 3
    (one,) = [point for point in points if key_of(point) == (first["metadata"]["uid"], 1, 1)]
    assert one["requestType"] == "resource"
    assert one["success"] is False  # `team` is no field of this type's data
    assert one["metadata"]["request"]["team"] == "shop"


def test_a_solved_request_and_a_stalled_one(
    start_operator: StartOperator, requests: RequestObjects, history: HistoryObjects
) -> None:
    start_operator(*QUICK)
    requests.resource("good")
    requests.resource(
        "bad", {"items": [{"id": "x", "cpu": "lots", "memory": "1Gi"}], "nodeCapacity": SMALL["nodeCapacity"]}
    )
    good, bad = history.wait_for("good"), history.wait_for("bad")
    assert (good["success"], bad["success"]) == (True, False)
    assert good["metadata"]["outcome"]["of"] == bad["metadata"]["outcome"]["of"] == "request"
    assert bad["metadata"]["solve"]["reason"] == "InvalidData"
    found = requests.get("good")
    status = found["status"]
    assert good["duration"] == status["metrics"]["durationMs"]
    assert good["metadata"]["solve"]["score"] == status["metrics"]["score"]
    assert good["metadata"]["request"]["items.count"] == 1
    created = datetime.datetime.fromisoformat(found["metadata"]["creationTimestamp"])  # whole seconds
    assert created.timestamp() <= good["timestamp"] / 1000 <= time.time()


@pytest.mark.usefixtures("node")
def test_the_outcome_of_a_job_is_joined(
    cluster: DevCluster, start_operator: StartOperator, requests: RequestObjects, history: HistoryObjects
) -> None:
    with MetricsApi(cluster) as metrics:
        start_operator(*QUICK)
        for name in ("works", "fails"):
            requests.resource(name, workloadRef={"kind": "Job", "name": name})
            requests.wait_reason(name, "Solved")
        # It runs until its usage was read, however late that is.
        make_job(requests, "works", "3600s")
        make_job(requests, "fails", "1s", "Failed", **{"exit-code": "7"})
        pods = ("get", "pods", "-l", "job-name=works", "-o", "jsonpath={.items[*].metadata.name}")
        pod = wait_until(lambda: requests.kubectl(*pods), bool, "the Job has a pod", WAIT_SECONDS)
        metrics.set_usage(requests.namespace, pod, "main", cpu=0.25, memory=100 * 2**20)
        requests.kubectl("wait", f"pod/{pod}", "--for=jsonpath={.status.phase}=Running", "--timeout=60s")
        before = metrics.requests
        # One may have been under way, and one is read when the next begins.
        wait_until(lambda: metrics.requests, lambda now: now >= before + 3, "its usage is read", WAIT_SECONDS)
        requests.kubectl("annotate", "pod", pod, "engineops.dev/run-for=1s", "--overwrite")
        works, fails = history.wait_for("works"), history.wait_for("fails")
    status = json.loads(requests.kubectl("get", "job", "works", "-o", "json"))["status"]
    began, ended = (datetime.datetime.fromisoformat(status[key]) for key in ("startTime", "completionTime"))
    assert works["success"] is True
    assert works["duration"] == 1000 * (ended - began).total_seconds() > 0
    assert works["metadata"]["outcome"]["of"] == "workload"
    assert works["metadata"]["outcome"]["state"] == "succeeded"
    assert works["metadata"]["requested"] == {"cpu": 0.1, "memory": 64 * 2**20}
    assert works["resourceUsage"]["cpu"] == pytest.approx(0.25, rel=0.03)
    assert works["resourceUsage"]["memory"] == pytest.approx(100 * 2**20, rel=0.03)
    assert fails["success"] is False
    assert fails["metadata"]["outcome"]["exitCode"] == 7
    assert fails["metadata"]["outcome"]["reason"] == "BackoffLimitExceeded"


@pytest.mark.usefixtures("node")
def test_an_outcome_that_comes_while_no_operator_runs_is_joined_by_the_next(
    start_operator: StartOperator, requests: RequestObjects, history: HistoryObjects
) -> None:
    first: OperatorProcess = start_operator(*QUICK)
    requests.resource("a", workloadRef={"kind": "Job", "name": "a"})
    requests.wait_reason("a", "Solved")
    first.kill9()
    first.stop()
    make_job(requests, "a", "1s")
    requests.kubectl("wait", "job/a", "--for=condition=Complete", "--timeout=30s")
    start_operator(*QUICK)
    assert history.wait_for("a")["metadata"]["outcome"]["state"] == "succeeded"


def test_a_standing_request_has_a_point_for_each_run(
    start_operator: StartOperator, requests: RequestObjects, history: HistoryObjects
) -> None:
    start_operator(*QUICK)
    requests.resource("a", intervalSeconds=10)
    points = history.wait(lambda found: len(found) >= 2)
    assert [key_of(point)[1:] for point in points[:2]] == [(1, 1), (1, 2)]
    # Once those before it are in the history, a run brings nothing but its own point.
    requests.wait("a", lambda found: found["status"]["run"] > 1 and len(found["status"]["historyPoints"]) == 1)


def test_a_request_is_deleted_by_its_ttl_only_when_it_is_in_the_history(
    start_operator: StartOperator, requests: RequestObjects, history: HistoryObjects
) -> None:
    operator: OperatorProcess = start_operator("--history-flush-seconds=600")
    requests.resource("a", ttlSecondsAfterFinished=0)
    requests.wait_gone("a")
    operator.kill9()
    assert history.wait_for("a")["success"] is True


@pytest.mark.usefixtures("node")
def test_what_runs_without_a_request_is_observed_where_it_is_asked_for(
    start_operator: StartOperator, requests: RequestObjects, history: HistoryObjects
) -> None:
    make_job(requests, "before", "1s")
    requests.kubectl("wait", "job/before", "--for=condition=Complete", "--timeout=30s")
    start_operator(*QUICK, f"--observe=kubernetes.io/metadata.name={requests.namespace}")
    make_job(requests, "after", "1s", "Failed")
    before, after = history.wait_for("before"), history.wait_for("after")
    assert (before["requestType"], after["requestType"]) == ("observed-job", "observed-job")
    assert (before["success"], after["success"]) == (True, False)


def test_without_a_history_nothing_is_written(
    start_operator: StartOperator, requests: RequestObjects, history: HistoryObjects
) -> None:
    start_operator("--no-history")
    requests.resource("a")
    assert "historyPoints" not in requests.wait_reason("a", "Solved")["status"]
    assert history.points() == []


def test_the_operators_own_status_says_how_the_history_is(
    start_operator: StartOperator, requests: RequestObjects, history: HistoryObjects
) -> None:
    start_operator(*QUICK)
    requests.resource("a")
    history.wait_for("a")
    text = requests.cluster.kubectl(
        "-n", "engine-ops-system", "get", "configmap", "engine-ops-status", "-o", "jsonpath={.data.conditions}"
    ).stdout
    conditions = {condition["type"]: condition["status"] for condition in yaml.safe_load(text)}
    assert conditions == {
        "HistoryLoaded": "True",
        "HistoryWritable": "True",
        "HistoryIntact": "True",
        "OutcomesReadable": "True",
    }
