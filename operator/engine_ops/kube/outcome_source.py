"""What became of workloads, read from the API server; fulfils `engine_ops.history.outcomes.source.OutcomeSource`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import quote

from engine_ops.history.outcomes.records import JobRecord, PodRecord, UsageSample, WorkloadRecord
from engine_ops.history.outcomes.source import SourceError
from engine_ops.kube.connection import Connection
from engine_ops.kube.departures import DepartureWatch
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError
from engine_ops.kube.observed_namespaces import ObservedNamespaces
from engine_ops.kube.outcome_errors import to_source_error
from engine_ops.kube.pod_metrics import PodMetrics
from engine_ops.kube.watch_source import PAGE_SIZE, Resource
from engine_ops.kube.watch_timings import Timings
from engine_ops.kube.watched import Watched
from engine_ops.kube.workload_records import UNREADABLE, job_record, pod_page, workload_record

_WORKLOADS: Final = {
    "Deployment": ("apps", "deployments"),
    "StatefulSet": ("apps", "statefulsets"),
    "DaemonSet": ("apps", "daemonsets"),
}
ReadT = TypeVar("ReadT")

_LIST_ATTEMPTS: Final = 3
"""Pages of a list hold together by a token that expires after minutes; a list that took longer begins anew."""


class KubeOutcomeSource:
    """Workloads, pods and usage at the API server. Every method raises `SourceError`.

    Jobs are watched, begun by the first call of `jobs` and ended when nobody has called it for a while; everything
    else is read when it is asked for. One caller: `changed` and the Jobs that have gone are told once.

    Parameters
    ----------
    connection
        To the API server.
    namespaces
        Watched ones, each with a watch of its own; none for one watch of the whole cluster.
    observe_selector
        Label selector of the namespaces that are observed; None for none.
    idle_seconds
        After so long without a call a watch ends.
    not_served_seconds
        For so long it is remembered that the cluster serves no metrics.
    timings
        Of the watches.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        namespaces: Sequence[str] = (),
        observe_selector: str | None = None,
        idle_seconds: float = 1800.0,
        not_served_seconds: float = 300.0,
        timings: Timings | None = None,
    ) -> None:
        self._connection = connection
        self._namespaces = frozenset(namespaces)
        self._idle_seconds = idle_seconds
        self._timings = timings or Timings()
        self._watches: dict[str, Watched[DepartureWatch[JobRecord]]] = {}
        self._metrics = PodMetrics(connection, not_served_seconds=not_served_seconds)
        self._observed = (
            None
            if observe_selector is None
            else ObservedNamespaces(
                connection, observe_selector, namespaces, idle_seconds=idle_seconds, timings=self._timings
            )
        )
        self._groups: tuple[DepartureWatch[JobRecord], int, Mapping[str, Sequence[JobRecord]]] | None = None
        self._change = asyncio.Event()

    async def close(self) -> None:
        """End every watch and connection of its own. What is asked after that raises `SourceError`."""
        closing = [watched.close() for watched in self._watches.values()]
        if self._observed is not None:
            closing.append(self._observed.close())
        await asyncio.gather(*closing)

    @property
    def watching(self) -> tuple[str, ...]:
        """The namespaces whose Jobs are watched now; an empty string stands for all of them."""
        return tuple(sorted(scope for scope, watched in self._watches.items() if watched.running))

    async def jobs(self, namespace: str) -> Sequence[JobRecord]:
        """Return every Job of a namespace, at most five seconds old.

        A Job that was deleted since the last call for this namespace is returned once more, as it last was; the
        last 5,000 of the last half an hour are kept until somebody asks.

        Raises
        ------
        SourceError
            If Jobs cannot be watched there.
        """
        watch = await self._watched_for(namespace).current()
        gone = watch.departures.claim(lambda record: record.namespace == namespace)
        return [*gone, *self._grouped(watch).get(namespace, ())]

    async def pods(self, namespace: str) -> Sequence[PodRecord]:
        """Return the pods of a namespace as they are now, finished ones too.

        This is a consistent read, not one with ``resourceVersion=0``: who asks has just seen a Job finish, and an
        older state of its pods would hide how they ended. Since Kubernetes 1.31 it comes from the API server's cache.

        Raises
        ------
        SourceError
            If they cannot be read.
        """
        path = f"/api/v1/namespaces/{_quoted(namespace)}/pods"
        params = {"limit": str(PAGE_SIZE)}
        for attempt in range(_LIST_ATTEMPTS):
            try:
                return await self._reading(self._pod_pages(path, params), "list pods", namespace)
            except _ExpiredError as error:
                if attempt == _LIST_ATTEMPTS - 1:
                    raise SourceError(f"the pods of namespace {namespace} change faster than they can be listed: "
                                      f"{error}") from error  # fmt: skip
        raise AssertionError("every attempt returns or raises")

    async def workload(self, kind: str, namespace: str, name: str) -> WorkloadRecord | None:
        """Return a Deployment, StatefulSet or DaemonSet as it is now, or None if it is not there.

        Raises
        ------
        SourceError
            If it cannot be read.
        ValueError
            If it is of another kind.
        """
        if kind not in _WORKLOADS:
            raise ValueError(f"a workload is a {', '.join(_WORKLOADS)}, not a {kind}")
        group, plural = _WORKLOADS[kind]
        path = f"/apis/{group}/v1/namespaces/{_quoted(namespace)}/{plural}/{_quoted(name)}"

        async def read() -> WorkloadRecord | None:
            try:
                body = await self._connection.request("GET", path)
            except ApiError as error:
                if error.status == 404:
                    return None
                raise
            return workload_record(kind, body)

        return await self._reading(read(), f"get {plural}.{group}", namespace)

    async def usage(self, namespace: str) -> Sequence[UsageSample] | None:
        """Return what the containers of a namespace use now; None where the cluster serves no metrics.k8s.io.

        Raises
        ------
        SourceError
            If it is served and cannot be read now.
        """
        return await self._metrics.usage(namespace)

    async def observed_namespaces(self) -> Sequence[str]:
        """Return the namespaces that the selector chooses, of the watched ones; sorted.

        Raises
        ------
        SourceError
            If namespaces cannot be watched.
        """
        return await self._observed.names() if self._observed else ()

    async def changed(self, timeout_seconds: float) -> bool:
        """Wait until a Job may have changed since this was last called, or the time is over.

        Only what is watched can change: before the first call of `jobs` nothing does.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._change.wait()
        changed = self._change.is_set()
        self._change.clear()
        return changed

    # ---- How it is read.

    def _grouped(self, watch: DepartureWatch[JobRecord]) -> Mapping[str, Sequence[JobRecord]]:
        """Return the Jobs by namespace: made once for all namespaces that are asked for between two changes."""
        if self._groups is None or self._groups[0] is not watch or self._groups[1] != watch.changes:
            groups: dict[str, list[JobRecord]] = {}
            for record in watch.records.values():
                groups.setdefault(record.namespace, []).append(record)
            self._groups = watch, watch.changes, groups
        return self._groups[2]

    def _watched_for(self, namespace: str) -> Watched[DepartureWatch[JobRecord]]:
        scope = namespace if self._namespaces else ""
        if self._namespaces and namespace not in self._namespaces:
            raise SourceError(f"namespace {namespace} is none of those that the operator watches")
        watched = self._watches.get(scope)
        if watched is None:
            watched = self._watches[scope] = Watched(
                lambda: self._new_watch(scope), "list and watch jobs.batch", scope, self._idle_seconds
            )
        return watched

    def _new_watch(self, scope: str) -> DepartureWatch[JobRecord]:
        within = f"namespaces/{_quoted(scope)}/" if scope else ""
        resource = Resource("jobs", f"/apis/batch/v1/{within}jobs", frozenset({"Job"}), job_record)
        return DepartureWatch(
            self._connection, resource, self._timings, uid_of=lambda job: job.uid, on_change=self._change.set
        )

    async def _pod_pages(self, path: str, params: Mapping[str, str]) -> list[PodRecord]:
        pods: list[PodRecord] = []
        token = ""
        while True:
            try:
                asked = {**params, "continue": token} if token else params
                body = await self._connection.request("GET", path, params=asked)
            except ApiError as error:
                if error.status == 410:
                    raise _ExpiredError(str(error)) from error
                raise
            page, token = pod_page(body)
            pods += page
            if not token:
                return pods

    async def _reading(self, read: Awaitable[ReadT], right: str, namespace: str) -> ReadT:
        try:
            return await read
        except (ApiError, UnavailableError, ConnectError) as error:
            raise to_source_error(error, right, namespace) from error
        except UNREADABLE as error:
            raise SourceError(f"what came of {right} in namespace {namespace} cannot be read: {error}") from error


class _ExpiredError(RuntimeError):
    """The token of a list's next page is no longer known."""


def _quoted(segment: str) -> str:
    return quote(segment, safe="")
