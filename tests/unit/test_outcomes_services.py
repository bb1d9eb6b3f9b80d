"""What became of Deployments, StatefulSets, DaemonSets and pods by selector that requests name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes_cluster import APP, GIB, HOUR_MS, MINUTE_MS, Cluster, Operator

from engine_ops.history.outcomes import collector
from engine_ops.history.outcomes.joining import given_up
from engine_ops.history.outcomes.looking import FreshSamples
from engine_ops.history.outcomes.pods import PodIndex, selector_of, selector_text, workload_of
from engine_ops.history.outcomes.records import JobRecord, Owner, PodRecord, UsageSample


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def operator(cluster: Cluster) -> Operator:
    return Operator(cluster)


def test_a_deployment_is_judged_at_the_end_of_the_window(cluster: Cluster, operator: Operator) -> None:
    uid = cluster.add_service("shop", replicas=2)
    pods = [cluster.add_web_pod("shop") for _ in range(2)]
    cluster.pass_time(HOUR_MS)
    operator.ask("Deployment", "shop", namespace="web", window_ms=HOUR_MS)
    for minute in range(60):
        cluster.use(pods[0], 0.1 if minute % 2 else 0.3, GIB)
        cluster.use(pods[1], 0.2, GIB / 2)
        operator.steps(1)
    point = operator.only()
    assert point.success
    assert point.duration == HOUR_MS
    assert point.resource_usage == {"cpu": 0.3, "memory": GIB}
    assert point.metadata["workload"] == {"kind": "Deployment", "namespace": "web", "name": "shop", "uid": uid}
    assert point.metadata["outcome"]["state"] == "running"
    assert point.metadata["outcome"]["pods"] == 2
    assert point.metadata["outcome"]["samples"] == 118  # the last minute is the next answer's
    assert point.metadata["containers"]["app"]["requests"] == dict(APP.requests)
    assert point.metadata["requested"] == dict(APP.requests)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (lambda cluster, pod: cluster.restart(pod, code=137, oom=True), "OOMKilled"),
        (lambda cluster, pod: cluster.restart(pod, code=1), "Restarted"),
        (lambda cluster, pod: cluster.end_pod(pod, 1), "PodFailed"),
        (lambda cluster, pod: cluster.change_pod(pod, phase="Failed", reason="Evicted"), "PodFailed"),
        (lambda cluster, _: cluster.change_service("shop", ready=0), "NotReady"),
        (lambda cluster, pod: cluster.restart(pod, code=0), ""),
        (lambda cluster, _: cluster.change_service("shop", replicas=0, ready=0), ""),
    ],
)
def test_what_counts_as_success_of_a_service(cluster: Cluster, operator: Operator, what: Any, reason: str) -> None:
    cluster.add_service("shop")
    pod = cluster.add_web_pod("shop")
    cluster.restart(pod)  # before the request
    cluster.pass_time(HOUR_MS)
    operator.ask("Deployment", "shop", namespace="web", window_ms=HOUR_MS)
    operator.steps(2)
    what(cluster, pod)
    operator.steps(60)
    point = operator.only()
    assert point.metadata["outcome"]["reason"] == reason
    assert point.success == (reason == "")


def test_a_rollout_is_no_failure_and_its_old_pods_are_remembered(cluster: Cluster, operator: Operator) -> None:
    cluster.add_service("shop")
    old = cluster.add_web_pod("shop")
    operator.ask("Deployment", "shop", namespace="web", window_ms=HOUR_MS)
    cluster.use(old, 0.9, GIB)
    operator.steps(2)
    new = cluster.add_web_pod("shop")
    cluster.end_pod(old, 143)
    cluster.change_pod(old, deleting=True)
    operator.steps(1)
    cluster.delete_pod(old)
    cluster.use(new, 0.2, GIB)
    operator.steps(60)
    point = operator.only()
    assert point.success
    assert point.resource_usage["cpu"] == 0.9


def test_the_next_answer_closes_the_one_before(cluster: Cluster, operator: Operator) -> None:
    cluster.add_service("shop")
    pod = cluster.add_web_pod("shop")
    cluster.use(pod, 0.2, GIB)
    operator.ask("Deployment", "shop", namespace="web")
    operator.steps(30)
    operator.ask("Deployment", "shop", namespace="web", uid="another")
    cluster.pass_time(500)
    operator.ask("Deployment", "shop", namespace="web")
    cluster.pass_time(MINUTE_MS)
    operator.step()
    (older,) = operator.closed
    assert older.success
    assert older.duration == 30 * MINUTE_MS + 500
    assert len(operator.log.open_points) == 2


def test_usage_before_the_request_is_not_its_usage(cluster: Cluster, operator: Operator) -> None:
    cluster.add_service("shop")
    pod = cluster.add_web_pod("shop")
    cluster.use(pod, 0.9, GIB)
    operator.ask("Deployment", "shop", namespace="web", uid="early", window_ms=HOUR_MS)
    cluster.pass_time(MINUTE_MS + 1000)
    operator.ask("Deployment", "shop", namespace="web", uid="late", window_ms=HOUR_MS)
    operator.step()  # of a moment before the second request
    cluster.use(pod, 0.1, GIB)
    operator.steps(120)
    peaks = {point.metadata["uid"]: point.resource_usage["cpu"] for point in operator.closed}
    assert peaks == {"early": 0.9, "late": 0.1}


def test_a_service_that_is_deleted_is_closed(cluster: Cluster, operator: Operator) -> None:
    cluster.add_service("shop")
    pod = cluster.add_web_pod("shop")
    cluster.use(pod, 0.2, GIB)
    operator.ask("Deployment", "shop", namespace="web")
    operator.steps(60)
    cluster.delete_service("shop")
    cluster.delete_pod(pod)
    operator.steps(20)
    point = operator.only()
    assert (point.metadata["outcome"]["state"], point.metadata["outcome"]["reason"]) == ("succeeded", "Deleted")
    assert point.resource_usage == {"cpu": 0.2, "memory": GIB}


def test_a_service_that_never_was_is_asked_for_rarely(cluster: Cluster, operator: Operator) -> None:
    operator.ask("DaemonSet", "agent", namespace="web", window_ms=2 * HOUR_MS)
    operator.steps(119)
    assert cluster.calls["workload web"] <= 13
    operator.steps(1)
    assert operator.only().metadata["outcome"]["reason"] == "WorkloadNotFound"


def test_a_service_is_asked_for_at_the_beginning_and_the_end(cluster: Cluster, operator: Operator) -> None:
    for number in range(300):
        cluster.add_service(f"shop-{number}")
        cluster.add_web_pod(f"shop-{number}")
        operator.ask("Deployment", f"shop-{number}", namespace="web", uid=f"r{number}", window_ms=HOUR_MS)
    operator.step()
    assert cluster.calls["workload web"] == 200  # the others wait
    operator.steps(10)
    assert cluster.calls["workload web"] == 300
    operator.steps(55)
    assert cluster.calls["workload web"] == 600
    assert len(operator.closed) == 300
    assert all(point.success and point.duration == HOUR_MS for point in operator.closed)


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_pods_of_another_of_the_same_name_are_not_its_own(cluster: Cluster, operator: Operator, kind: str) -> None:
    uid = cluster.add_service("db", kind=kind)
    mine = cluster.add_pod("db-0", Owner(kind, "db", uid))
    other = cluster.add_pod("db-1", Owner(kind, "db", "another"))
    operator.ask(kind, "db", namespace="web", window_ms=HOUR_MS)
    operator.step()
    cluster.use(mine, 0.2, GIB)
    cluster.use(other, 0.9, GIB)
    operator.steps(60)
    assert operator.only().resource_usage["cpu"] == 0.2


SELECTOR = {"matchLabels": {"app": "shop"}, "matchExpressions": [{"key": "canary", "operator": "DoesNotExist"}]}


def test_pods_of_a_selector(cluster: Cluster, operator: Operator) -> None:
    chosen = cluster.add_pod("a", labels={"app": "shop"})
    other = cluster.add_pod("b", labels={"app": "shop", "canary": "yes"})
    operator.ask("", "", namespace="web", selector=SELECTOR, window_ms=HOUR_MS)
    cluster.use(chosen, 0.2, GIB)
    cluster.use(other, 0.9, GIB)
    operator.steps(60)
    point = operator.only()
    assert point.success
    assert point.resource_usage["cpu"] == 0.2
    assert point.metadata["workload"] == {"kind": "Selector", "namespace": "web", "name": "app=shop,!canary"}
    assert "workloadSelector" not in point.metadata


def test_pods_of_a_selector_that_all_ended_are_a_batch(cluster: Cluster, operator: Operator) -> None:
    early = cluster.add_pod("early", labels={"app": "shop"})
    cluster.end_pod(early, 1)  # before the request
    cluster.pass_time(HOUR_MS)
    operator.ask("", "", namespace="web", selector=SELECTOR)
    operator.steps(10)
    first = cluster.add_pod("first", labels={"app": "shop"})
    operator.steps(10)
    cluster.end_pod(first)
    operator.steps(3)
    second = cluster.add_pod("second", labels={"app": "shop"})
    operator.steps(10)
    cluster.end_pod(second)
    operator.steps(10)
    point = operator.only()
    assert point.success
    assert point.duration == 23 * MINUTE_MS
    assert point.metadata["outcome"]["state"] == "succeeded"


def test_what_is_pushed_out_keeps_what_was_seen(cluster: Cluster) -> None:
    operator = Operator(cluster, open_capacity=1, close_pushed_out=lambda opened: given_up(opened, cluster.now_ms))
    pod = cluster.add_pod("a", labels={"app": "shop"})
    cluster.use(pod, 0.2, GIB)
    operator.ask("", "", namespace="web", selector=SELECTOR, uid="first")
    operator.steps(2)
    operator.ask("", "", namespace="web", selector=SELECTOR, uid="second")
    operator.steps(1)
    (point,) = operator.closed
    assert point.metadata["outcome"]["reason"] == "PushedOut"
    assert point.metadata["outcome"]["state"] == "unknown"
    assert point.resource_usage["cpu"] == 0.2
    assert len(operator.log.open_points) == 1


def test_without_metrics_the_rest_is_told(cluster: Cluster, operator: Operator) -> None:
    cluster.metrics = False
    cluster.add_service("shop")
    cluster.restart(cluster.add_web_pod("shop"))
    operator.ask("Deployment", "shop", namespace="web", window_ms=HOUR_MS)
    operator.steps(60)
    point = operator.only()
    assert point.resource_usage == {}
    assert point.metadata["outcome"]["samples"] == 0
    assert operator.outcomes.trouble == ""


def test_the_loop_looks_when_it_is_woken(cluster: Cluster, operator: Operator) -> None:
    async def scenario() -> None:
        task = asyncio.create_task(operator.outcomes.run())
        try:
            async with asyncio.timeout(20):
                cluster.end_job(cluster.add_job("train"))
                await asyncio.sleep(0)  # the first step is done: nothing waited
                operator.ask("Job", "train")
                operator.outcomes.wake()
                while operator.log.open_points:
                    assert not task.done()
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert operator.only().success


def test_a_defect_does_not_end_the_loop(
    cluster: Cluster, operator: Operator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(collector, "SPACING_S", 0.01)
    cluster.end_job(cluster.add_job("train"))
    operator.ask("Job", "train")
    jobs = cluster.jobs

    async def defective(namespace: str) -> Sequence[JobRecord]:
        monkeypatch.setattr(cluster, "jobs", jobs)
        raise KeyError(namespace)

    monkeypatch.setattr(cluster, "jobs", defective)

    async def scenario() -> None:
        task = asyncio.create_task(operator.outcomes.run())
        try:
            async with asyncio.timeout(20):
                while operator.log.open_points:
                    assert not task.done()
                    operator.outcomes.wake()
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert operator.only().success
    assert "a defect; outcomes are looked at again" in caplog.text


def test_a_sample_that_was_seen_before_is_not_new() -> None:
    fresh = FreshSamples()

    def sample(pod: str, at_ms: int) -> UsageSample:
        return UsageSample("web", pod, "app", at_ms, {})

    assert set(fresh.of("web", [sample("a", 1), sample("b", 1)])) == {"a", "b"}
    assert set(fresh.of("web", [sample("a", 1), sample("b", 2)])) == {"b"}
    assert set(fresh.of("other", [sample("a", 1)])) == {"a"}
    fresh.keep(["other"])
    assert set(fresh.of("web", [sample("a", 1)])) == {"a"}


# ---- Whose pods are whose.

labels = st.dictionaries(st.sampled_from(["app", "tier", "canary"]), st.sampled_from(["a", "b", "c"]), max_size=3)
expressions = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["app", "tier", "canary"]),
            "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
            "values": st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=2),
        }
    ),
    max_size=3,
)


def holds(selector: dict[str, Any], own: dict[str, str]) -> bool:
    """As Kubernetes documents it."""
    checks = [own.get(key) == value for key, value in selector["matchLabels"].items()]
    for expression in selector["matchExpressions"]:
        key, values = expression["key"], expression["values"]
        checks.append(
            {
                "In": key in own and own[key] in values,
                "NotIn": key not in own or own[key] not in values,
                "Exists": key in own,
                "DoesNotExist": key not in own,
            }[expression["operator"]]
        )
    return all(checks)


def a_pod(name: str, own: dict[str, str], owner: Owner | None = None) -> PodRecord:
    return PodRecord(name, "web", name, own, owner, "Running", "", 0, None, (), ())


@given(st.lists(labels, max_size=12), labels, expressions)
def test_a_selector_chooses_as_kubernetes_does(
    crowd: list[dict[str, str]], wanted: dict[str, str], more: list[dict[str, Any]]
) -> None:
    selector = {"matchLabels": wanted, "matchExpressions": more}
    pods = [a_pod(str(number), own) for number, own in enumerate(crowd)]
    compiled = selector_of(selector)
    assert compiled is not None
    assert PodIndex(pods).chosen(compiled) == [pod for pod in pods if holds(selector, dict(pod.labels))]


@given(labels, expressions)
def test_the_text_of_a_selector_does_not_depend_on_its_spelling(wanted: dict[str, str], more: list[Any]) -> None:
    text = selector_text({"matchLabels": wanted, "matchExpressions": more})
    turned = [expression | {"values": expression["values"][::-1]} for expression in reversed(more)]
    assert selector_text({"matchExpressions": turned, "matchLabels": dict(reversed(wanted.items()))}) == text


@pytest.mark.parametrize("data", [None, "app=a", {"matchLabels": 3}, {"matchExpressions": [{"key": "a"}]},
                                  {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}])  # fmt: skip
def test_what_is_no_selector_chooses_nothing(data: Any) -> None:
    assert selector_of(data) is None
    assert selector_text(data) == ""


@pytest.mark.parametrize(
    ("owner", "own", "expected"),
    [
        (None, {}, ("Pod", "p", "p")),
        (Owner("ReplicaSet", "shop-5d4f", "rs"), {"pod-template-hash": "5d4f"}, ("Deployment", "shop", None)),
        (Owner("ReplicaSet", "shop-5d4f", "rs"), {}, ("ReplicaSet", "shop-5d4f", "rs")),
        (Owner("ReplicaSet", "bare", "rs"), {"pod-template-hash": "5d4f"}, ("ReplicaSet", "bare", "rs")),
        (Owner("StatefulSet", "db", "sts"), {}, ("StatefulSet", "db", "sts")),
        (Owner("Job", "report-1", "j1"), {}, ("CronJob", "report", "cron")),
        (Owner("Job", "other", "j2"), {}, ("Job", "other", "j2")),
    ],
)
def test_the_workload_of_a_pod(owner: Owner | None, own: dict[str, str], expected: tuple[str, str, str | None]) -> None:
    cron = Owner("CronJob", "report", "cron")
    jobs = {"j1": JobRecord("j1", "web", "report-1", 1, 0, cron, 0, None, None, "", "", ())}
    assert workload_of(a_pod("p", own, owner), jobs) == expected
