"""A small cluster in memory, with Jobs, pods, services and metrics, that outcomes are collected from."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.history.open_points import OpenPoint
from engine_ops.history.outcomes.collector import OutcomeCollector
from engine_ops.history.outcomes.records import (
    ContainerSpec,
    ContainerStatus,
    JobRecord,
    Owner,
    PodRecord,
    UsageSample,
    WorkloadRecord,
)
from engine_ops.history.outcomes.source import SourceError
from engine_ops.ml.data_point import WorkloadDataPoint

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
START_MS = 1_750_000_000_000 // DAY_MS * DAY_MS + 8 * HOUR_MS  # a morning, UTC
GIB = float(2**30)
APP = ContainerSpec("app", {"cpu": 0.5, "memory": GIB}, {"cpu": 1.0, "memory": 2 * GIB})


class Cluster:
    """Fulfils `OutcomeSource`; time passes when `pass_time` says so."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.down = False
        self.forbidden: set[str] = set()
        self.metrics = True
        self.observed: list[str] = []
        self.calls: Counter[str] = Counter()
        self._uids = itertools.count(1)
        self._jobs: dict[str, JobRecord] = {}
        self._gone: list[JobRecord] = []
        self._pods: dict[str, PodRecord] = {}
        self._services: dict[tuple[str, str, str], WorkloadRecord] = {}
        self._usage: dict[tuple[str, str], dict[str, float]] = {}

    # ---- What happens in it.

    def uid(self) -> str:
        return f"uid-{next(self._uids)}"

    def pass_time(self, ms: int) -> None:
        self.now_ms += ms

    @property
    def second(self) -> int:
        """Now, as Kubernetes writes it."""
        return self.now_ms // 1000 * 1000

    def add_job(
        self,
        name: str,
        *,
        namespace: str = "jobs",
        cron: str | None = None,
        suspended: bool = False,
        specs: tuple[ContainerSpec, ...] = (APP,),
    ) -> str:
        uid = self.uid()
        owner = Owner("CronJob", cron, f"cron-{cron}") if cron else None
        started = None if suspended else self.second
        self._jobs[uid] = JobRecord(uid, namespace, name, 1, self.second, owner, started, None, None, "", "", specs)
        return uid

    def change_job(self, uid: str, **changes: Any) -> None:
        self._jobs[uid] = dataclasses.replace(self._jobs[uid], **changes)

    def end_job(self, uid: str, reason: str = "") -> None:
        self.change_job(uid, finished_ms=self.second, succeeded=not reason, reason=reason)

    def delete_job(self, uid: str) -> None:
        job = self._jobs.pop(uid)
        if job.succeeded is not None:
            self._gone.append(job)
        for pod in [pod for pod in self._pods.values() if pod.owner is not None and pod.owner.uid == uid]:
            del self._pods[pod.uid]

    def add_service(self, name: str, *, kind: str = "Deployment", namespace: str = "web", replicas: int = 1) -> str:
        uid = self.uid()
        self._services[kind, namespace, name] = WorkloadRecord(uid, kind, namespace, name, (APP,), replicas, replicas)
        return uid

    def change_service(self, name: str, *, kind: str = "Deployment", namespace: str = "web", **changes: Any) -> None:
        key = (kind, namespace, name)
        self._services[key] = dataclasses.replace(self._services[key], **changes)

    def delete_service(self, name: str, *, kind: str = "Deployment", namespace: str = "web") -> None:
        del self._services[kind, namespace, name]

    def add_pod(
        self,
        name: str,
        owner: Owner | None = None,
        *,
        namespace: str = "web",
        labels: Mapping[str, str] | None = None,
        specs: tuple[ContainerSpec, ...] = (APP,),
    ) -> str:
        uid = self.uid()
        statuses = tuple(ContainerStatus(spec.name) for spec in specs)
        self._pods[uid] = PodRecord(
            uid, namespace, name, labels or {}, owner, "Running", "", self.second, None, specs, statuses
        )
        return uid

    def add_job_pod(self, job: str, **kwargs: Any) -> str:
        record = self._jobs[job]
        name = f"{record.name}-{next(self._uids)}"
        return self.add_pod(name, Owner("Job", record.name, job), namespace=record.namespace, **kwargs)

    def add_web_pod(self, deployment: str, **kwargs: Any) -> str:
        labels = {"app": deployment, "pod-template-hash": "5d4f"}
        owner = Owner("ReplicaSet", f"{deployment}-5d4f", f"rs-{deployment}")
        return self.add_pod(f"{deployment}-5d4f-{next(self._uids)}", owner, labels=labels, **kwargs)

    def change_pod(self, uid: str, **changes: Any) -> None:
        self._pods[uid] = dataclasses.replace(self._pods[uid], **changes)

    def delete_pod(self, uid: str) -> None:
        del self._pods[uid]

    def end_pod(self, uid: str, code: int = 0, *, oom: bool = False) -> None:
        pod = self._pods[uid]
        reason = "OOMKilled" if oom else "Completed" if code == 0 else "Error"
        statuses = tuple(
            dataclasses.replace(s, exit_code=code, reason=reason, oom_killed=oom, finished_ms=self.second)
            for s in pod.statuses
        )
        phase = "Failed" if code else "Succeeded"
        self.change_pod(uid, phase=phase, finished_ms=self.second, statuses=statuses)

    def restart(self, uid: str, container: str = "app", code: int = 1, *, oom: bool = False) -> None:
        pod = self._pods[uid]
        statuses = tuple(
            s
            if s.name != container
            else ContainerStatus(s.name, s.restarts + 1, code, "OOMKilled" if oom else "Error", oom, self.second)
            for s in pod.statuses
        )
        self.change_pod(uid, statuses=statuses)

    def use(self, pod: str, cpu: float, memory: float, container: str = "app") -> None:
        self._usage[pod, container] = {"cpu": cpu, "memory": memory}

    # ---- What is asked of it.

    def _answer(self, what: str) -> None:
        self.calls[what] += 1
        if self.down:
            raise SourceError("the API server does not answer")
        if what.split(maxsplit=1)[0] in self.forbidden:
            raise SourceError(f"forbidden: {what}")

    async def jobs(self, namespace: str) -> Sequence[JobRecord]:
        self._answer(f"jobs {namespace}")
        gone = [job for job in self._gone if job.namespace == namespace]
        self._gone = [job for job in self._gone if job.namespace != namespace]
        return [*gone, *(job for job in self._jobs.values() if job.namespace == namespace)]

    async def pods(self, namespace: str, labels: Mapping[str, str] | None = None) -> Sequence[PodRecord]:
        self._answer(f"pods {namespace}")
        wanted = (labels or {}).items()
        return [p for p in self._pods.values() if p.namespace == namespace and wanted <= p.labels.items()]

    async def workload(self, kind: str, namespace: str, name: str) -> WorkloadRecord | None:
        self._answer(f"workload {namespace}")
        assert kind in {"Deployment", "StatefulSet", "DaemonSet", "CronJob"}
        return self._services.get((kind, namespace, name))

    async def usage(self, namespace: str) -> Sequence[UsageSample] | None:
        self._answer(f"usage {namespace}")
        if not self.metrics:
            return None
        at_ms = self.now_ms // 15_000 * 15_000
        return [
            UsageSample(namespace, self._pods[pod].name, container, at_ms, dict(used))
            for (pod, container), used in self._usage.items()
            if pod in self._pods and self._pods[pod].namespace == namespace and self._pods[pod].phase == "Running"
        ]

    async def observed_namespaces(self) -> Sequence[str]:
        self._answer("observed_namespaces")
        return self.observed

    async def changed(self, timeout_seconds: float) -> bool:
        await asyncio.sleep(timeout_seconds)
        return False


class Operator:
    """A log and a collector over a cluster, which may be killed and started again."""

    def __init__(
        self, cluster: Cluster, *, observe: bool = False, store: MemoryStore | None = None, **log: Any
    ) -> None:
        self.cluster = cluster
        self.store = store or MemoryStore()
        self._observe = observe
        self._log_options = log
        self._numbers = itertools.count(1)
        self.start()

    def start(self) -> None:
        self.log = HistoryLog(self.store, clock=lambda: self.cluster.now_ms, **self._log_options)
        self.outcomes = OutcomeCollector(
            self.log, self.cluster, observe=self._observe, clock=lambda: self.cluster.now_ms
        )
        asyncio.run(self.log.load())

    def flush(self) -> None:
        """Write everything, and the watermark as high as it may be."""
        self.log.record(WorkloadDataPoint(self.cluster.now_ms, "other", {}, 1.0, True), self.log.stamp())
        asyncio.run(self.log.flush())

    def ask(
        self,
        kind: str,
        name: str,
        *,
        namespace: str = "jobs",
        uid: str = "request",
        run: int | None = None,
        window_ms: int = DAY_MS,
        selector: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Answer a request for a workload."""
        metadata: dict[str, Any] = {
            "uid": uid,
            "generation": 1,
            "run": run if run is not None else next(self._numbers),
            "namespace": namespace,
            "name": "request",
        }
        if selector is not None:
            metadata["workloadSelector"] = dict(selector)
        else:
            metadata["workload"] = {"kind": kind, "namespace": namespace, "name": name}
        now_ms = self.cluster.now_ms
        opened = OpenPoint(
            WorkloadDataPoint(now_ms, "resource", {}, 12.0, True, metadata), self.log.stamp(), now_ms + window_ms
        )
        assert self.log.open(opened)
        return opened.key

    def step(self) -> None:
        asyncio.run(self.outcomes.step())

    def steps(self, minutes: int, every: int = 1) -> None:
        """Let time pass, with a look every so many minutes."""
        for _ in range(minutes // every):
            self.cluster.pass_time(every * MINUTE_MS)
            self.step()

    @property
    def closed(self) -> list[WorkloadDataPoint]:
        return [point for point in self.log.collector.select() if point.request_type != "other"]

    def only(self) -> WorkloadDataPoint:
        """The one point that was closed."""
        (point,) = self.closed
        assert not self.log.open_points
        return point
