"""From the API server's JSON to records of Jobs, pods, workloads and usage."""

from __future__ import annotations

import datetime
import doctest
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.history.outcomes.records import ContainerSpec, ContainerStatus, Owner, UsageSample
from engine_ops.kube import outcome_errors, workload_records
from engine_ops.kube.departures import Departures
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.kube.outcome_errors import to_source_error
from engine_ops.kube.pod_metrics import usage_samples
from engine_ops.kube.workload_records import UNREADABLE, epoch_ms, job_record, pod_page, workload_record

AT = "2026-03-01T12:00:00Z"
AT_MS = 1772366400000
_FIRST = datetime.datetime(1970, 1, 1)  # noqa: DTZ001  # its zone is what the test varies
_LAST = datetime.datetime(2200, 1, 1)  # noqa: DTZ001
CREATED = {"name": "a", "namespace": "n", "uid": "u", "creationTimestamp": AT}


def encoded(**parts: Any) -> bytes:
    return json.dumps({"metadata": CREATED, **parts}).encode()


def pod(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **metadata: Any) -> Any:
    item = {"metadata": {**CREATED, **metadata}, "spec": spec, "status": status}
    [record], token = pod_page(json.dumps({"metadata": {}, "items": [item]}).encode())
    assert token == ""
    return record


def ended(code: int, reason: str, at: str = AT) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": AT, "finishedAt": at}}


# ---- Jobs


def test_a_job_that_has_not_begun_knows_nothing_of_its_end() -> None:
    record = job_record(encoded())
    assert (record.created_ms, record.started_ms, record.finished_ms, record.succeeded) == (AT_MS, None, None, None)
    assert (record.specs, record.owner, record.reason) == ((), None, "")


def test_a_job_that_succeeded_ended_at_its_completion_time() -> None:
    status = {
        "startTime": AT,
        "completionTime": "2026-03-01T12:00:07Z",
        "conditions": [
            {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": "2026-03-01T12:00:06Z"},
            {"type": "Complete", "status": "True", "lastTransitionTime": "2026-03-01T12:00:08Z"},
        ],
    }
    record = job_record(encoded(status=status))
    assert (record.succeeded, record.started_ms, record.finished_ms) == (True, AT_MS, AT_MS + 7000)


def test_a_job_that_failed_says_why_and_when() -> None:
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often",
              "lastTransitionTime": "2026-03-01T12:00:03Z"}  # fmt: skip
    record = job_record(encoded(status={"startTime": AT, "conditions": [failed]}))
    assert (record.succeeded, record.finished_ms) == (False, AT_MS + 3000)
    assert (record.reason, record.message) == ("BackoffLimitExceeded", "too often")


@pytest.mark.parametrize("kind", ["FailureTarget", "SuccessCriteriaMet", "Suspended"])
def test_a_job_whose_pods_still_run_has_not_ended(kind: str) -> None:
    condition = {"type": kind, "status": "True", "reason": "R", "lastTransitionTime": AT}
    record = job_record(encoded(status={"startTime": AT, "conditions": [condition]}))
    assert (record.succeeded, record.finished_ms, record.reason) == (None, None, "")


def test_a_condition_that_is_false_is_no_end() -> None:
    condition = {"type": "Failed", "status": "False", "lastTransitionTime": AT}
    assert job_record(encoded(status={"conditions": [condition]})).succeeded is None


def test_only_the_controller_owns() -> None:
    owners = [
        {"kind": "Other", "name": "o", "uid": "1"},
        {"kind": "CronJob", "name": "nightly", "uid": "2", "controller": True},
    ]
    job = json.dumps({"metadata": {**CREATED, "ownerReferences": owners}}).encode()
    assert job_record(job).owner == Owner("CronJob", "nightly", "2")


def test_nulls_are_as_good_as_nothing() -> None:
    record = job_record(
        b'{"metadata": {"name": "a", "creationTimestamp": null, "labels": null, "ownerReferences": null},'
        b' "spec": {"template": {"spec": {"containers": null}}}, "status": {"conditions": null}}'
    )
    assert (record.created_ms, record.labels, record.specs) == (0, {}, ())
    assert pod(None, None).statuses == ()


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"metadata": {}}', b'{"metadata": {"name": 1}}', b"{" * 5000])
def test_what_is_no_job_is_refused(raw: bytes) -> None:
    with pytest.raises(UNREADABLE):
        job_record(raw)


# ---- Pods


def test_sidecars_count_as_containers_and_plain_init_containers_do_not() -> None:
    def container(name: str, cpu: str, **more: str) -> dict[str, Any]:
        return {"name": name, "resources": {"requests": {"cpu": cpu}}, **more}

    record = pod(
        {
            "initContainers": [container("prepare", "4"), container("mesh", "100m", restartPolicy="Always")],
            "containers": [container("main", "2"), {"name": "bare"}],
        }
    )
    assert record.specs == (
        ContainerSpec("main", {"cpu": 2.0}),
        ContainerSpec("bare"),
        ContainerSpec("mesh", {"cpu": 0.1}),
    )


def test_a_request_absent_beside_a_limit_is_the_limit() -> None:
    resources = {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "500m"}}
    template = {"template": {"spec": {"containers": [{"name": "main", "resources": resources}]}}}
    [spec] = job_record(encoded(spec=template)).specs
    assert spec.requests == {"cpu": 0.5, "memory": 2**30}
    assert spec.limits == {"cpu": 2.0, "memory": 2**30}


def test_the_last_termination_is_the_current_one_or_the_one_before_the_restart() -> None:
    status = {
        "phase": "Running",
        "startTime": AT,
        "containerStatuses": [
            {"name": "fresh", "restartCount": 0, "state": {"running": {"startedAt": AT}}},
            {"name": "again", "restartCount": 2, "state": {"running": {}}, "lastState": ended(137, "OOMKilled")},
            {"name": "waits", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
             "lastState": ended(1, "Error")},
            {"name": "done", "restartCount": 1, "state": ended(0, "Completed", "2026-03-01T12:00:09Z"),
             "lastState": ended(137, "OOMKilled")},
        ],
    }  # fmt: skip
    record = pod({}, status)
    assert record.statuses == (
        ContainerStatus("fresh"),
        ContainerStatus("again", 2, 137, "OOMKilled", oom_killed=True, finished_ms=AT_MS),
        ContainerStatus("waits", 1, 1, "Error", finished_ms=AT_MS),
        # Both of its ends: an OOM kill would be lost between two looks.
        ContainerStatus("done", 1, 137, "OOMKilled", oom_killed=True, finished_ms=AT_MS),
        ContainerStatus("done", 1, 0, "Completed", finished_ms=AT_MS + 9000),
    )
    assert (record.started_ms, record.finished_ms) == (AT_MS, None)  # it runs


def test_init_containers_are_told_of_where_they_failed() -> None:
    spec = {"initContainers": [{"name": "mesh", "restartPolicy": "Always"}, {"name": "ok"}, {"name": "bad"}]}
    inits = [
        {"name": "mesh", "restartCount": 0, "state": {"running": {}}},
        {"name": "ok", "restartCount": 0, "state": ended(0, "Completed")},
        {"name": "bad", "restartCount": 0, "state": ended(3, "Error")},
    ]
    record = pod(spec, {"phase": "Failed", "initContainerStatuses": inits})
    assert [(status.name, status.exit_code) for status in record.statuses] == [("mesh", None), ("bad", 3)]


def test_a_pod_ended_with_its_last_container() -> None:
    containers = [
        {"name": "a", "restartCount": 0, "state": ended(0, "Completed", "2026-03-01T12:00:05Z")},
        {"name": "b", "restartCount": 0, "state": ended(1, "Error", "2026-03-01T12:00:02Z")},
    ]
    assert pod({}, {"phase": "Failed", "containerStatuses": containers}).finished_ms == AT_MS + 5000


def test_a_pod_that_was_evicted_before_it_ran_has_an_end_and_a_reason() -> None:
    conditions = [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                   "lastTransitionTime": "2026-03-01T12:00:02Z"}]  # fmt: skip
    record = pod({}, {"phase": "Failed", "conditions": conditions})
    assert (record.reason, record.finished_ms) == ("PreemptionByScheduler", AT_MS + 2000)
    assert pod({}, {"phase": "Failed", "reason": "Evicted", "conditions": conditions}).reason == "Evicted"


def test_a_pod_that_is_being_deleted_says_so() -> None:
    assert pod({}, {}, deletionTimestamp=AT).deleting
    assert not pod({}, {}).deleting


def test_a_page_says_how_to_ask_for_the_next() -> None:
    assert pod_page(b'{"metadata": {"continue": "x"}, "items": null}') == ([], "x")


# ---- Workloads


@pytest.mark.parametrize(
    ("kind", "spec", "status", "replicas", "ready"),
    [
        ("Deployment", {"replicas": 3}, {"readyReplicas": 2}, 3, 2),
        ("StatefulSet", {"replicas": 0}, {}, 0, 0),
        ("DaemonSet", {}, {"desiredNumberScheduled": 5, "numberReady": 4}, 5, 4),
    ],
)
def test_a_workload_has_its_pods_containers(
    kind: str, spec: dict[str, Any], status: dict[str, Any], replicas: int | None, ready: int | None
) -> None:
    template = {"template": {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "1"}}}]}}}
    spec |= template
    record = workload_record(kind, encoded(spec=spec, status=status))
    assert record.specs == (ContainerSpec("main", {"cpu": 1.0}),)
    assert (record.kind, record.uid, record.replicas, record.ready) == (kind, "u", replicas, ready)


# ---- Amounts and times


@given(st.datetimes(_FIRST, _LAST), st.sampled_from(["", "Z"]))
def test_times_are_read_to_the_millisecond(moment: datetime.datetime, zone: str) -> None:
    if not zone:
        assert epoch_ms(moment.isoformat()) is None  # whose clock would that be
        return
    expected = moment - _FIRST
    assert epoch_ms(moment.isoformat() + zone) == pytest.approx(expected / datetime.timedelta(milliseconds=1), abs=0.51)


def test_usage_is_in_cores_and_bytes_and_what_is_unreadable_is_left_out() -> None:
    items = [
        {
            "metadata": {"name": "p", "namespace": "n"},
            "timestamp": AT,
            "window": "15s",
            "containers": [
                {"name": "a", "usage": {"cpu": "1234567890n", "memory": "2Mi"}},
                {"name": "b", "usage": {"cpu": "-1", "memory": 5}},
                {"name": "c", "usage": {"cpu": "?"}},
                {"name": "d"},
            ],
        },
        {"metadata": {"name": "without-time"}, "containers": [{"name": "a", "usage": {"cpu": "1"}}]},
        {"metadata": {"name": "q"}, "timestamp": AT, "containers": [{"name": "a", "usage": {"cpu": "1u"}}]},
    ]
    assert usage_samples(json.dumps({"items": items}).encode(), "m") == [
        UsageSample("n", "p", "a", AT_MS, {"cpu": 1.23456789, "memory": 2.0 * 2**20}),
        UsageSample("n", "p", "b", AT_MS, {"memory": 5.0}),
        UsageSample("m", "q", "a", AT_MS, {"cpu": 1e-06}),
    ]
    assert usage_samples(b'{"items": null}', "n") == []


# ---- What has gone


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9)), max_size=30), st.integers(1, 4))
def test_what_has_gone_is_told_once_in_its_last_state_and_within_the_bound(
    notes: list[tuple[str, int]], kept: int
) -> None:
    gone: Departures[tuple[str, int]] = Departures(lambda record: record[0], kept=kept)
    for note in notes:
        gone.note(note)
        assert len(gone) <= kept
    last: dict[str, int] = {}
    for uid, state in notes:
        last.pop(uid, None)
        last[uid] = state
    expected = list(last.items())[-kept:]
    assert gone.claim(lambda record: record[0] in "abc") == [item for item in expected if item[0] in "abc"]
    assert gone.claim(lambda _: True) == [item for item in expected if item[0] not in "abc"]
    assert len(gone) == 0


def test_what_has_gone_is_forgotten_after_a_while() -> None:
    clock = Clock()
    gone: Departures[tuple[str, int]] = Departures(lambda record: record[0], kept_seconds=10, clock=clock)
    gone.note(("old", 1))
    clock.seconds = 8
    gone.note(("young", 1))
    clock.seconds = 12
    assert gone.claim(lambda _: True) == [("young", 1)]


def test_an_older_state_does_not_replace_the_last_one() -> None:
    gone: Departures[tuple[str, int]] = Departures(lambda record: record[0])
    gone.note(("a", 2))
    gone.note(("a", 1), newer=False)
    gone.note(("b", 1), newer=False)
    assert gone.claim(lambda _: True) == [("a", 2), ("b", 1)]


# ---- What is said


def test_a_missing_right_is_named() -> None:
    refused = to_source_error(ApiError(403, {"message": "forbidden: x"}), "list and watch jobs.batch", "")
    assert str(refused) == "the operator may not list and watch jobs.batch in all namespaces: forbidden: x"
    away = to_source_error(UnavailableError("refused"), "list pods", "n")
    assert str(away) == "the API server is away, the operator cannot list pods in namespace n: refused"
    other = to_source_error(ApiError(400, {"reason": "BadRequest", "message": "no selector"}), "list pods", "n")
    assert "list pods in namespace n" in str(other)
    assert "no selector" in str(other)


@pytest.mark.parametrize("module", [workload_records, outcome_errors])
def test_examples_of_the_docstrings(module: Any) -> None:
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0
