"""The live cluster: nodes, pods and namespaces as compact records, started by the first who needs them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from typing import Any, Final

import msgspec

from engine_ops.api.faults import WaitingError
from engine_ops.api.reasons import Reason
from engine_ops.engine.cluster.decode import RecordDecoder
from engine_ops.engine.cluster.records import ClusterSnapshot, NodeRecord, PodRecord, snapshot_of
from engine_ops.kube.coalescing import Coalesced
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.kube.watch import Watch
from engine_ops.kube.watch_source import Resource
from engine_ops.kube.watch_timings import Timings
from engine_ops.kube.watch_view import Counters

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 1800.0
_RETRY_SECONDS: Final = (0.1, 1.0)
NOT_FINISHED: Final = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}
"""As kube-scheduler asks for pods: one that finishes is told of as deleted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """How many objects are cached."""

    nodes: int
    pods: int
    namespaces: int


class _Watches:
    """The three watches, from start to stop."""

    def __init__(self, connection: Connection, timings: Timings) -> None:
        decoder = RecordDecoder()

        def labels(raw: msgspec.Raw) -> dict[str, str]:
            return decoder.namespace(raw)[1]

        self.nodes: Watch[NodeRecord] = Watch(
            connection, Resource("nodes", "/api/v1/nodes", frozenset({"Node"}), decoder.node), timings
        )
        self.pods: Watch[PodRecord] = Watch(
            connection, Resource("pods", "/api/v1/pods", frozenset({"Pod"}), decoder.pod, NOT_FINISHED), timings
        )
        self.namespaces: Watch[dict[str, str]] = Watch(
            connection,
            Resource(
                "namespaces",
                "/api/v1/namespaces",
                frozenset({"PartialObjectMetadata", "Namespace"}),
                labels,
                metadata_only=True,
            ),
            timings,
        )
        self.by_name: dict[str, Watch[Any]] = {
            "nodes": self.nodes,
            "pods": self.pods,
            "namespaces": self.namespaces,
        }


class _ReadError(RuntimeError):
    """One of the resources could not be brought up to now."""

    def __init__(self, plural: str, cause: ApiError | UnavailableError) -> None:
        super().__init__(f"{plural}: {cause}")
        self.plural = plural
        self.cause = cause

    @property
    def forbidden(self) -> bool:
        return isinstance(self.cause, ApiError) and self.cause.status == 403


class ClusterCache:
    """All nodes, all pods that are not finished, and the labels of all namespaces.

    Nothing runs until the first `snapshot`; all callers share what runs then. It stops, and its memory is free, when
    nobody has asked for a while.

    Parameters
    ----------
    connection
        To the API server.
    idle_seconds
        After so long without a `snapshot` it stops.
    timings
        Of the watches.
    """

    def __init__(
        self, connection: Connection, *, idle_seconds: float = IDLE_SECONDS, timings: Timings | None = None
    ) -> None:
        self._connection = connection
        self._idle_seconds = idle_seconds
        self._timings = timings or Timings()
        self._watches: _Watches | None = None
        self._refresh = Coalesced(self._bring_up_to_now)
        self._idle: asyncio.Task[None] | None = None
        self._stopping: asyncio.Future[list[None]] | None = None
        self._used_at = 0.0
        self._users = 0
        self._closed = False
        self._snapshot: tuple[tuple[int, int, int], ClusterSnapshot] | None = None

    async def close(self) -> None:
        """End every task and connection. Whoever waits for a snapshot gets a `WaitingError`."""
        self._closed = True
        await self._refresh.close()
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.cancel()
            await asyncio.wait([idle])
        await self._stop()

    @property
    def running(self) -> bool:
        """Whether the cluster is being watched."""
        return self._watches is not None

    @property
    def age_seconds(self) -> float | None:
        """The time since the whole view was last known to be what the server had; None while there is none.

        Between bookmarks, about a minute, a cluster in which nothing happens ages; a snapshot makes it young.
        """
        watches = self._watches
        if watches is None:
            return None
        moments = [watch.current_at for watch in watches.by_name.values()]
        known = [moment for moment in moments if moment is not None]
        return time.monotonic() - min(known) if len(known) == len(moments) else None

    @property
    def counts(self) -> Counts:
        """How many objects are cached; zeros while it does not run."""
        watches = self._watches
        if watches is None:
            return Counts(0, 0, 0)
        return Counts(len(watches.nodes.records), len(watches.pods.records), len(watches.namespaces.records))

    @property
    def counters(self) -> dict[str, Counters]:
        """What has happened since the start, by resource."""
        watches = self._watches
        return {name: watch.counters for name, watch in watches.by_name.items()} if watches else {}

    async def snapshot(self, *, timeout_seconds: float = 10.0) -> ClusterSnapshot:
        """Return the cluster as it was when this was called, or later.

        Parameters
        ----------
        timeout_seconds
            How long it may take. What is wrong for a moment is tried again until then; a refusal is told at once.

        Returns
        -------
        ClusterSnapshot
            Shared between callers, never to be changed.

        Raises
        ------
        WaitingError
            With Forbidden if the operator may not see one of the resources; with SourceUnavailable if the API server
            does not answer in time.
        """
        failure: _ReadError | None = None
        self._users += 1
        try:
            async with asyncio.timeout(timeout_seconds):
                failed = 0
                while True:
                    self._start()
                    try:
                        await self._refresh()
                        break
                    except _ReadError as error:
                        if error.forbidden:
                            raise _waiting(error) from error
                        failure = error
                    await asyncio.sleep(min(_RETRY_SECONDS[0] * 2.0 ** min(failed, 8), _RETRY_SECONDS[1]))
                    failed += 1
        except TimeoutError as error:
            raise _waiting(failure, timeout_seconds) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._closed and (task is None or not task.cancelling()):
                raise WaitingError(Reason.SOURCE_UNAVAILABLE, "the operator is about to end") from error
            raise
        finally:
            self._users -= 1
            self._used_at = time.monotonic()
        return self._build()

    def _start(self) -> None:
        if self._closed:
            raise WaitingError(Reason.SOURCE_UNAVAILABLE, "the operator is about to end")
        if self._watches is None:
            self._watches = _Watches(self._connection, self._timings)
            for watch in self._watches.by_name.values():
                watch.start()
            logger.info("watching nodes, pods and namespaces")
        if self._idle is None or self._idle.done():
            self._idle = asyncio.create_task(self._stop_when_idle(), name="end of the cluster cache")

    async def _stop_when_idle(self) -> None:
        while True:
            left = self._idle_seconds if self._users else self._used_at + self._idle_seconds - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)
                continue
            logger.info("nobody has asked for the cluster for %.0f s: no longer watching it", self._idle_seconds)
            await self._stop()
            if self._watches is None:  # else somebody has asked meanwhile
                return

    async def _stop(self) -> None:
        watches, self._watches = self._watches, None
        self._snapshot = None
        if watches is not None:
            self._stopping = asyncio.gather(*(watch.close() for watch in watches.by_name.values()))
        if self._stopping is not None:
            # Whoever is cancelled over it, the connections are closed.
            await asyncio.shield(self._stopping)

    async def _bring_up_to_now(self) -> None:
        watches = self._watches
        if watches is None:
            raise _ReadError("nodes", UnavailableError("no longer watched"))

        async def bring(plural: str, watch: Watch[Any]) -> None:
            try:
                await watch.fresh()
            except (ApiError, UnavailableError) as error:
                raise _ReadError(plural, error) from error

        errors: list[_ReadError] = []
        # The first failure ends the others: nobody waits for a list of pods where the nodes are forbidden.
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(bring(plural, watch)) for plural, watch in watches.by_name.items()]
        for task in tasks:
            error = None if task.cancelled() else task.exception()
            if isinstance(error, _ReadError):
                errors.append(error)
            elif error is not None:
                raise error
        if errors:
            raise min(errors, key=lambda error: not error.forbidden)

    def _build(self) -> ClusterSnapshot:
        watches = self._watches
        if watches is None:
            raise WaitingError(Reason.SOURCE_UNAVAILABLE, "the cluster is no longer watched")
        changes = (watches.nodes.changes, watches.pods.changes, watches.namespaces.changes)
        if self._snapshot is None or self._snapshot[0] != changes:
            snapshot = snapshot_of(
                list(watches.nodes.records.values()),
                # Nearly sorted already, which makes sorting cheap: a list comes in this order.
                list(watches.pods.records.values()),
                {key.partition("\0")[2]: labels for key, labels in watches.namespaces.records.items()},
            )
            self._snapshot = changes, snapshot
        return self._snapshot[1]


def _waiting(error: _ReadError | None, timeout_seconds: float = 0.0) -> WaitingError:
    if error is None:
        message = f"nodes, pods and namespaces could not be read within {timeout_seconds:g} s"
        return WaitingError(Reason.SOURCE_UNAVAILABLE, message)
    cause = error.cause
    said = cause.message if isinstance(cause, ApiError) else str(cause)
    if error.forbidden:
        return WaitingError(Reason.FORBIDDEN, f"the operator may not list and watch {error.plural}: {said}")
    return WaitingError(Reason.SOURCE_UNAVAILABLE, f"{error.plural} cannot be read: {said}")
