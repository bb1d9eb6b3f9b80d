"""What containers use, from a real aggregated metrics.k8s.io; and what is said where there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from metrics_api import MetricsApi
from outcome_jobs import Jobs, finished, job_when, pods_of, reading, run, until

from engine_ops.devcluster import DevCluster
from engine_ops.history.outcomes.records import PodRecord, UsageSample
from engine_ops.history.outcomes.source import SourceError
from engine_ops.kube.outcome_source import KubeOutcomeSource


@pytest.fixture
def jobs(cluster: DevCluster, namespace: str) -> Iterator[Jobs]:
    made = Jobs(cluster, namespace)
    yield made
    made.remove_node()


async def pod_of(source: KubeOutcomeSource, jobs: Jobs, job: str) -> PodRecord:
    """Return the pod of a Job, once it runs."""
    found: list[PodRecord] = []

    async def runs() -> bool:
        found[:] = await pods_of(source, jobs.namespace, job)
        return bool(found) and found[0].phase == "Running"

    await until(runs, f"{job} does not run")
    return found[0]


def test_the_usage_of_pods_that_run(jobs: Jobs) -> None:
    async def check() -> None:
        with MetricsApi(jobs.cluster) as metrics:
            metrics.set_usage(jobs.namespace, "train-*", "main", cpu="123456789n", memory="48Mi")
            metrics.set_usage(jobs.namespace, "train-*", "mesh", cpu=0.002, memory=lambda age: 1000.0 + 0 * age)
            metrics.set_usage("elsewhere", "*", "*", cpu=9, memory=9)
            async with reading(jobs.cluster.kubeconfig) as source:
                assert await source.usage(jobs.namespace) == []
                jobs.create("train", "300s", mesh=True)
                jobs.create("unmeasured", "300s")
                pod = await pod_of(source, jobs, "train")
                await pod_of(source, jobs, "unmeasured")
                before = time.time() * 1000
                samples = await source.usage(jobs.namespace)
                assert samples is not None
                by_name = {sample.container: sample for sample in samples}
                assert len(samples) == 2
                assert by_name["main"].usage == {"cpu": 0.123456789, "memory": 48 * 2**20}
                assert by_name["mesh"].usage == {"cpu": 0.002, "memory": 1000}
                assert {(sample.namespace, sample.pod) for sample in samples} == {(jobs.namespace, pod.name)}
                # metrics.k8s.io has whole seconds.
                assert before - 1000 <= by_name["main"].at_ms <= time.time() * 1000

                lines: set[tuple[str, ...]] = set()

                def is_shown() -> bool:
                    top = ("top", "pod", "-n", jobs.namespace, "--containers", "--no-headers")
                    shown = jobs.cluster.kubectl(*top, check=False)
                    lines.update(tuple(line.split()) for line in shown.stdout.splitlines())
                    return shown.returncode == 0

                # kubectl looks first what the API server lists as served, which follows what it serves.
                await until(is_shown, "kubectl top does not find metrics.k8s.io")
                assert (pod.name, "main", "124m", "48Mi") in lines  # kubectl rounds up

                jobs.create("short", "1s")
                metrics.set_usage(jobs.namespace, "*", "*", cpu=1, memory=1)
                await job_when(source, jobs.namespace, "short", finished)
                samples = await source.usage(jobs.namespace)
                assert samples is not None
                assert not [sample for sample in samples if sample.pod.startswith("short")], "it has ended"

    run(check)


def test_metrics_that_come_and_go(cluster: DevCluster, namespace: str) -> None:
    async def check() -> None:
        async with (
            reading(cluster.kubeconfig) as forgetting_late,
            reading(cluster.kubeconfig, not_served_seconds=0) as source,
        ):

            async def asked() -> list[UsageSample] | None:
                samples = await source.usage(namespace)
                return None if samples is None else list(samples)

            async def not_served() -> bool:
                return await asked() is None

            assert await asked() is None
            assert await forgetting_late.usage(namespace) is None
            with MetricsApi(cluster) as metrics:
                assert await asked() == []
                before = metrics.requests
                assert await forgetting_late.usage(namespace) is None
                assert metrics.requests == before, "it was asked again"
                with metrics.unavailable(), pytest.raises(SourceError, match="does not answer now"):
                    await asked()
                assert await asked() == []
            await until(not_served, "metrics.k8s.io does not go")

    run(check)


def test_metrics_that_are_registered_and_down(cluster: DevCluster, namespace: str) -> None:
    async def check() -> None:
        with MetricsApi(cluster, serving=False):
            async with reading(cluster.kubeconfig) as source:
                for _ in range(2):  # not remembered: it may come back at any time
                    with pytest.raises(SourceError, match="registered but does not answer now"):
                        await source.usage(namespace)

    run(check)


def test_metrics_leave_nothing_behind(cluster: DevCluster) -> None:
    def registered() -> bool:
        return "metrics.k8s.io" in cluster.kubectl("get", "apiservice", "-o", "name").stdout

    with MetricsApi(cluster):
        assert registered()
        cluster.kubectl("label", "apiservice", "v1beta1.metrics.k8s.io", "engineops.dev/test-")
        with pytest.raises(AssertionError, match="of its own"), MetricsApi(cluster):
            pytest.fail("it took the place of another one")
        assert registered()
    assert not registered()
