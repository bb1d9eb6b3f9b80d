"""What became of workloads, read from a real API server: Jobs that kwok runs, and their pods."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
from collections.abc import Iterator
from typing import Any

import pytest
from outcome_jobs import RESOURCES, WAIT_SECONDS, Jobs, finished, job_when, pods_of, reading, run, until

from engine_ops.devcluster import DevCluster
from engine_ops.history.outcomes.records import JobRecord, Owner, PodRecord
from engine_ops.history.outcomes.source import SourceError


@pytest.fixture
def jobs(cluster: DevCluster, namespace: str) -> Iterator[Jobs]:
    made = Jobs(cluster, namespace)
    yield made
    made.remove_node()


def ms(time_: str) -> int:
    return round(datetime.datetime.fromisoformat(time_).timestamp() * 1000)


# ---- Jobs and their pods


def test_a_job_that_succeeds(jobs: Jobs) -> None:
    async def check() -> None:
        async with reading(jobs.cluster.kubeconfig) as source:
            assert await source.jobs(jobs.namespace) == []
            jobs.create("train", "2s", mesh=True)
            job = await job_when(source, jobs.namespace, "train", finished)
            found = await asyncio.to_thread(jobs.request, "GET", f"{jobs.path}/train")
            status = found["status"]
            assert (job.succeeded, job.reason, job.owner) == (True, "", None)
            assert (job.uid, job.generation) == (found["metadata"]["uid"], found["metadata"]["generation"])
            assert job.created_ms == ms(found["metadata"]["creationTimestamp"])
            assert (job.started_ms, job.finished_ms) == (ms(status["startTime"]), ms(status["completionTime"]))
            assert job.finished_ms is not None
            assert job.started_ms is not None
            assert job.finished_ms - job.started_ms >= 2000
            assert job.labels["team"] == "a"
            main, mesh = job.specs
            assert (main.requests, main.limits) == (
                {"cpu": 0.25, "memory": 2**26},
                {"cpu": 0.5, "memory": 2**26},
            )
            assert (mesh.name, mesh.requests) == ("mesh", {})

            [pod] = await source.pods(jobs.namespace)
            assert pod.owner == Owner("Job", "train", job.uid)
            assert (pod.phase, pod.deleting) == ("Succeeded", False)
            assert pod.specs == job.specs
            by_name = {container.name: container for container in pod.statuses}
            assert set(by_name) == {"main", "mesh"}  # the init container ended well
            assert (by_name["main"].exit_code, by_name["main"].reason) == (0, "Completed")
            assert pod.finished_ms == by_name["main"].finished_ms
            assert await pods_of(source, jobs.namespace, "train") == [pod]

    run(check)


def test_a_job_that_fails_says_why(jobs: Jobs) -> None:
    async def check() -> None:
        async with reading(jobs.cluster.kubeconfig, namespaces=[jobs.namespace]) as source:
            jobs.create("broken", outcome="Failed", exit_code=42)
            job = await job_when(source, jobs.namespace, "broken", finished)
            assert (job.succeeded, job.reason) == (False, "BackoffLimitExceeded")
            assert job.message
            assert job.finished_ms is not None
            # Read after the Job has ended: it must hold the end of its pods, too.
            [pod] = await source.pods(jobs.namespace)
            assert pod.phase == "Failed"
            [main] = pod.statuses
            assert (main.exit_code, main.reason, main.oom_killed) == (42, "Error", False)
            assert source.watching == (jobs.namespace,)

    run(check)


def test_a_job_that_exceeds_its_deadline(jobs: Jobs) -> None:
    async def check() -> None:
        async with reading(jobs.cluster.kubeconfig) as source:
            jobs.create("slow", "300s", activeDeadlineSeconds=1)
            job = await job_when(source, jobs.namespace, "slow", finished)
            assert (job.succeeded, job.reason) == (False, "DeadlineExceeded")

    run(check)


def test_oom_kills(jobs: Jobs) -> None:
    async def check() -> None:
        async with reading(jobs.cluster.kubeconfig) as source:
            jobs.create("once", outcome="OOMKilled")
            # It goes on whenever we look: no number of restarts is too many.
            jobs.create("again", outcome="OOMKilled", restart="OnFailure", backoffLimit=10**6)
            job = await job_when(source, jobs.namespace, "once", finished)
            assert job.succeeded is False
            [pod] = await pods_of(source, jobs.namespace, "once")
            [main] = pod.statuses
            assert (main.exit_code, main.reason, main.oom_killed, main.restarts) == (137, "OOMKilled", True, 0)

            found: list[PodRecord] = []

            async def restarted() -> bool:
                found[:] = await pods_of(source, jobs.namespace, "again")
                return bool(found) and bool(found[0].statuses) and found[0].statuses[0].restarts >= 2

            await until(restarted, "the pod is not restarted")
            [main] = found[0].statuses
            assert (found[0].phase, found[0].finished_ms) == ("Running", None)
            assert (main.exit_code, main.reason, main.oom_killed) == (137, "OOMKilled", True)
            assert main.finished_ms is not None
            [running] = [job for job in await source.jobs(jobs.namespace) if job.name == "again"]
            assert running.succeeded is None
            jobs.delete("again")

    run(check)


def test_a_job_that_succeeds_after_oom_kills(jobs: Jobs) -> None:
    async def check() -> None:
        async with reading(jobs.cluster.kubeconfig) as source:
            jobs.create("recovers", outcome="OOMKilled", oom_kills=2, restart="OnFailure", backoffLimit=6)
            job = await job_when(source, jobs.namespace, "recovers", finished)
            assert job.succeeded is True
            [pod] = await source.pods(jobs.namespace)
            before, last = pod.statuses
            assert (before.restarts, before.exit_code, before.reason, before.oom_killed) == (2, 137, "OOMKilled", True)
            assert (last.restarts, last.exit_code, last.reason, last.oom_killed) == (2, 0, "Completed", False)

    run(check)


def test_a_job_that_goes_as_soon_as_it_has_finished_is_told_of(jobs: Jobs) -> None:
    async def check() -> None:
        async with reading(jobs.cluster.kubeconfig) as source:
            assert await source.jobs(jobs.namespace) == []
            # Nobody looks while they run, finish and go.
            jobs.create("fleeting", ttlSecondsAfterFinished=0)
            jobs.create("wrong", outcome="Failed", ttlSecondsAfterFinished=0)
            for name in ("fleeting", "wrong"):
                await until(lambda name=name: jobs.gone(name), f"{name} stays")  # type: ignore[misc]
            told: dict[str, JobRecord] = {}

            async def over() -> bool:
                # The view may be some seconds old: then they are told of as they were, and again when they have gone.
                now = await source.jobs(jobs.namespace)
                told.update({job.name: job for job in now})
                return len(told) == 2 and not now

            await until(over, "they are not told of, or again and again")
            assert (told["fleeting"].succeeded, told["wrong"].succeeded) == (True, False)
            assert told["wrong"].reason == "BackoffLimitExceeded"
            assert told["fleeting"].finished_ms is not None
            assert await source.jobs(jobs.namespace) == []

    run(check)


def test_a_job_that_is_deleted_in_the_middle_is_told_of_as_it_was(jobs: Jobs) -> None:
    async def check() -> None:
        async with reading(jobs.cluster.kubeconfig) as source:
            jobs.create("long", "300s")
            first = await job_when(source, jobs.namespace, "long", lambda job: job.started_ms is not None)
            jobs.delete("long")
            jobs.create("long", "300s")  # another one of this name
            second = await job_when(source, jobs.namespace, "long", lambda job: job.uid != first.uid)
            seen = [job.uid for job in await source.jobs(jobs.namespace)]
            assert seen == [second.uid], "the first one was told of with the second"
            jobs.delete("long")
            told: list[JobRecord] = []

            async def gone() -> bool:
                told[:] = await source.jobs(jobs.namespace)
                return jobs.gone("long") and not told

            deleted = await job_when(source, jobs.namespace, "long", lambda job: job.uid == second.uid)
            assert (deleted.succeeded, deleted.finished_ms) == (None, None)
            await until(gone, "it is told of again and again")

    run(check)


def test_a_job_of_a_cron_job_names_it(jobs: Jobs) -> None:
    async def check() -> None:
        cron = {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "nightly", "namespace": jobs.namespace},
            "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": jobs.spec()}},
        }
        jobs.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(cron))
        jobs.cluster.kubectl("create", "job", "tonight", "--from=cronjob/nightly", "-n", jobs.namespace)
        async with reading(jobs.cluster.kubeconfig) as source:
            job = await job_when(source, jobs.namespace, "tonight", finished)
        uid = jobs.cluster.kubectl(
            "get", "cronjob/nightly", "-n", jobs.namespace, "-o", "jsonpath={.metadata.uid}"
        ).stdout
        assert job.owner == Owner("CronJob", "nightly", uid)

    run(check)


# ---- Workloads


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_a_workload_says_what_it_asks_for(jobs: Jobs, kind: str) -> None:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "nodeSelector": {"test": jobs.namespace},
            "containers": [{"name": "main", "image": "web", "resources": RESOURCES}],
        },
    }
    spec: dict[str, Any] = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    if kind != "DaemonSet":
        spec["replicas"] = 2
    manifest = {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": jobs.namespace},
        "spec": spec,
    }

    async def check() -> None:
        async with reading(jobs.cluster.kubeconfig) as source:
            assert await source.workload(kind, jobs.namespace, "web") is None
            jobs.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
            wanted = 1 if kind == "DaemonSet" else 2

            async def ready() -> bool:
                found = await source.workload(kind, jobs.namespace, "web")
                return found is not None and (found.replicas, found.ready) == (wanted, wanted)

            await until(ready, "it does not become ready")
            found = await source.workload(kind, jobs.namespace, "web")
            assert found is not None
            assert found.specs[0].requests == {"cpu": 0.25, "memory": 2**26}
            assert (found.kind, found.namespace, found.name) == (kind, jobs.namespace, "web")
            with pytest.raises(ValueError, match="not a Node"):
                await source.workload("Node", "", "web")

    run(check)


# ---- The watch: when it runs, and what it says


def test_a_change_wakes(jobs: Jobs) -> None:
    async def check() -> None:
        async with reading(jobs.cluster.kubeconfig, namespaces=[jobs.namespace]) as source:
            assert not await source.changed(0.01)
            assert source.watching == ()
            await source.jobs(jobs.namespace)
            assert await source.changed(WAIT_SECONDS)  # the first list
            assert not await source.changed(0.2)
            waiting = asyncio.create_task(source.changed(WAIT_SECONDS))
            await asyncio.to_thread(jobs.create, "wakes")
            assert await waiting
            with pytest.raises(SourceError, match="elsewhere is none of those"):
                await source.jobs("elsewhere")

    run(check)


def test_nothing_is_watched_when_nobody_asks(cluster: DevCluster, namespace: str) -> None:
    async def check() -> None:
        async with reading(cluster.kubeconfig, idle_seconds=0.3, observe_selector="a=b") as source:
            for _ in range(2):
                assert await source.jobs(namespace) == []
                assert source.watching == ("",)
                await until(lambda: source.watching == (), "it is still watched")
            assert await source.observed_namespaces() == []

    run(check)


def test_after_the_end_nothing_is_told(cluster: DevCluster, namespace: str) -> None:
    async def check() -> None:
        async with reading(cluster.kubeconfig) as source:
            await source.jobs(namespace)
            await source.close()
            with pytest.raises(SourceError, match="about to end"):
                await source.jobs(namespace)

    run(check)


# ---- A server of its own: many pods, and none at all


def test_pages_of_pods_and_a_server_that_goes_away() -> None:
    count = 1203

    async def check(plane: DevCluster) -> None:
        async with reading(plane.kubeconfig, namespaces=["many"]) as source:
            pods = await source.pods("many")
            assert sorted(pod.name for pod in pods) == [f"p{number:04}" for number in range(count)]
            assert await source.jobs("many") == []
            await asyncio.to_thread(plane.stop)

            async def away() -> bool:
                with contextlib.suppress(SourceError):
                    await source.jobs("many")
                    return False
                return True

            await until(away, "nobody notices that the server is gone")
            with pytest.raises(SourceError, match="the API server is away, the operator cannot list and watch jobs"):
                await source.jobs("many")
            with pytest.raises(SourceError, match="the API server is away, the operator cannot list pods"):
                await source.pods("many")
            with pytest.raises(SourceError, match="the API server is away"):
                await source.usage("many")
            with pytest.raises(SourceError, match="the API server is away"):
                await source.workload("Deployment", "many", "web")

    with DevCluster.start(components=("etcd", "kube-apiserver")) as plane:
        with plane.client() as client:
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "many"}}
            client.request("POST", "/api/v1/namespaces", namespace)
            spec = {"containers": [{"name": "c", "image": "i"}]}
            for number in range(count):
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number:04}"}, "spec": spec}
                client.request("POST", "/api/v1/namespaces/many/pods", pod)
        run(lambda: check(plane))
