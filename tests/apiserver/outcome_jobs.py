"""Jobs that kwok runs, and the source that reads what became of them: for tests of outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.client import ApiError
from engine_ops.history.outcomes.records import JobRecord, PodRecord
from engine_ops.kube.connection import Connection
from engine_ops.kube.outcome_source import KubeOutcomeSource

WAIT_SECONDS = 60.0
RESOURCES = {"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}


@contextlib.asynccontextmanager
async def reading(kubeconfig: Path, **options: Any) -> AsyncIterator[KubeOutcomeSource]:
    connection = await Connection.open(str(kubeconfig))
    source = KubeOutcomeSource(connection, **options)
    try:
        yield source
    finally:
        await source.close()
        await connection.close()


def run(check: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(2 * WAIT_SECONDS):
            await check()
        assert len(asyncio.all_tasks()) == 1, "something still runs"
        # A connection whose handshake was cut short is closed a few turns of the loop later.
        watched = asyncio.get_running_loop()._selector.get_map()  # type: ignore[attr-defined]
        deadline = time.monotonic() + WAIT_SECONDS
        while len(watched) > 1:  # the loop's own pipe
            assert time.monotonic() < deadline, "a connection is left open"
            await asyncio.sleep(0.01)

    asyncio.run(main())


class Jobs:
    """The Jobs of one test, on a node of their own."""

    def __init__(self, cluster: DevCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        (self.node,) = cluster.add_nodes(1, prefix=namespace, labels={"test": namespace})
        self.path = f"/apis/batch/v1/namespaces/{namespace}/jobs"

    def spec(self, run_for: str = "1s", *, restart: str = "Never", outcome: str = "", **more: Any) -> dict[str, Any]:
        annotations = {"engineops.dev/run-for": run_for}
        if outcome:
            annotations["engineops.dev/outcome"] = outcome
        for option in ("exit_code", "oom_kills"):
            if option in more:
                annotations[f"engineops.dev/{option.replace('_', '-')}"] = str(more.pop(option))
        pod = {
            "restartPolicy": restart,
            "nodeSelector": {"test": self.namespace},
            "containers": [{"name": "main", "image": "work", "resources": RESOURCES}],
            "initContainers": [
                {"name": "prepare", "image": "work"},
                *([{"name": "mesh", "image": "mesh", "restartPolicy": "Always"}] if more.pop("mesh", False) else []),
            ],
        }
        return {"backoffLimit": 0, "template": {"metadata": {"annotations": annotations}, "spec": pod}, **more}

    def request(self, method: str, path: str, body: Any = None) -> Any:
        with self.cluster.client() as client:
            return client.request(method, path, body)

    def create(self, name: str, *arguments: Any, **options: Any) -> None:
        spec = self.spec(*arguments, **options)
        metadata = {"name": name, "labels": {"team": "a"}}
        body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
        self.request("POST", self.path, body)

    def delete(self, name: str) -> None:
        self.request("DELETE", f"{self.path}/{name}?propagationPolicy=Background")

    def remove_node(self) -> None:
        self.request("DELETE", f"/api/v1/nodes/{self.node}")

    def gone(self, name: str) -> bool:
        try:
            self.request("GET", f"{self.path}/{name}")
        except ApiError as error:
            if error.status == 404:
                return True
            raise
        return False


async def job_when(
    source: KubeOutcomeSource, namespace: str, name: str, done: Callable[[JobRecord], bool]
) -> JobRecord:
    """Look at the Jobs, each time that one may have changed, until this one is as asked."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        for job in await source.jobs(namespace):
            if job.name == name and done(job):
                return job
        assert time.monotonic() < deadline, f"{name} is not as it should be"
        await source.changed(1.0)


def finished(job: JobRecord) -> bool:
    return job.succeeded is not None


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        met = condition()
        if met if isinstance(met, bool) else await met:
            return
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def pods_of(source: KubeOutcomeSource, namespace: str, job: str) -> list[PodRecord]:
    """Return the pods of one Job."""
    pods = await source.pods(namespace)
    return [pod for pod in pods if pod.labels.get("batch.kubernetes.io/job-name") == job]
