"""Kubernetes Events on users' objects. They are notices: bounded, best effort, never awaited by a reconcile."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import logging
import secrets
from typing import Literal

import msgspec

from engine_ops.api.base import API_VERSION
from engine_ops.kube.connection import METADATA_ONLY, Connection
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.kube.paths import REQUEST
from engine_ops.kube.target import Target

logger = logging.getLogger(__name__)

COMPONENT = "engine-ops"
MAX_QUEUED = 1000
MAX_MESSAGE = 1024
"""The API server's limit for an Event's note."""
CLUSTER_SCOPED_NAMESPACE = "default"
"""Where the API server wants the Events of objects that have no namespace."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Notice:
    target: Target
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    time: str


class EventRecorder:
    """Posts Events one after the other in the background.

    Parameters
    ----------
    connection
        To the API server.
    instance
        What tells this operator from another, for ``reportingInstance``.
    """

    def __init__(self, connection: Connection, instance: str) -> None:
        self._connection = connection
        self._instance = instance[:128]
        self._queue: asyncio.Queue[_Notice] = asyncio.Queue(MAX_QUEUED)
        self.dropped = 0

    def record(self, target: Target, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Queue an Event. When a thousand wait already it is dropped, and counted: a log line is not lost with it."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        try:
            self._queue.put_nowait(_Notice(target, type_, reason, message, now))
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Post queued Events until cancelled."""
        while True:
            notice = await self._queue.get()
            try:
                await self._post(notice)
            except (ApiError, UnavailableError) as error:
                # A namespace on its way out takes no Events; anything else is worth a line, never a retry storm.
                if not (isinstance(error, ApiError) and (error.namespace_is_terminating or error.status == 404)):
                    logger.warning("%s: an Event was not recorded: %s", notice.target, error)

    async def drain(self, seconds: float) -> None:
        """Post what is queued, for at most so long."""
        with contextlib.suppress(TimeoutError, ApiError, UnavailableError):
            async with asyncio.timeout(seconds):
                while not self._queue.empty():
                    await self._post(self._queue.get_nowait())

    async def _post(self, notice: _Notice) -> None:
        target = notice.target
        namespace = target.namespace or CLUSTER_SCOPED_NAMESPACE
        regarding = {
            "apiVersion": API_VERSION,
            "kind": target.kind.kind,
            "namespace": target.namespace,
            "name": target.name,
            "uid": target.uid,
        }
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{target.name[:230]}.{secrets.token_hex(8)}", "namespace": namespace},
            "type": notice.type,
            "reason": notice.reason,
            "note": notice.message[:MAX_MESSAGE],
            "action": "Solve" if target.kind == REQUEST else "Run",
            "eventTime": notice.time,
            "reportingController": COMPONENT,
            "reportingInstance": self._instance,
            "regarding": regarding,
        }
        await self._connection.request(
            "POST",
            f"/apis/events.k8s.io/v1/namespaces/{namespace}/events",
            body=msgspec.json.encode(event),
            accept=METADATA_ONLY,
        )
