"""Lists of our own kinds with nothing in them but what is shown: a request's data may be megabytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from engine_ops.api.conditions import READY, RECONCILING, STALLED
from engine_ops.api.reasons import WAITING, Reason
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError
from engine_ops.kube.paths import PLUGIN, collection_path, requests_path

PAGE_SIZE: Final = 250
MAX_GONE: Final = 3
"""How often a list may be begun anew because its pages took too long."""

_T = TypeVar("_T")


class Metadata(msgspec.Struct, rename="camel"):
    """What is shown of an object's metadata."""

    name: str
    namespace: str = ""
    generation: int = 0
    creation_timestamp: str = ""


class ConditionRow(msgspec.Struct, rename="camel"):
    """A condition."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    observed_generation: int | None = None
    last_transition_time: str = ""


class _Spec(msgspec.Struct, rename="camel"):
    type: str = ""
    suspend: bool = False


class _Quality(msgspec.Struct, rename="camel"):
    """How good an answer is; the fields of a result are the type's own, so they may be anything."""

    gap: Any = None
    lower_bound: Any = None
    objective: Any = None


class _Metrics(msgspec.Struct, rename="camel"):
    duration_ms: int | None = None
    score: float | None = None


class _SolvedBy(msgspec.Struct, rename="camel"):
    name: str | None = None
    version: str | None = None
    role: str | None = None
    fallback_reason: str | None = None


class _Status(msgspec.Struct, rename="camel"):
    observed_generation: int = -1
    conditions: list[ConditionRow] = []
    metrics: _Metrics | None = None
    solved_by: _SolvedBy | None = None
    result: _Quality | None = None
    progress: _Quality | None = None
    completion_time: str | None = None


class RequestRow(msgspec.Struct, rename="camel"):
    """An OptimizationRequest without its data and without its answer."""

    metadata: Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)

    def condition(self, type_: str) -> ConditionRow | None:
        """Return the condition of a type, or None."""
        return next((condition for condition in self.status.conditions if condition.type == type_), None)

    @property
    def state(self) -> str:
        """In a word: ready, stalled, waiting, solving, suspended, or unseen where the operator has not spoken yet."""
        ready = self.condition(READY)
        if ready is None or (ready.observed_generation or 0) < self.metadata.generation:
            return "unseen"
        if ready.reason == Reason.SUSPENDED:
            return "suspended"
        if _is_true(self.condition(STALLED)):
            return "stalled"
        if ready.status == "True":
            return "ready"
        if _is_true(self.condition(RECONCILING)) and ready.reason in WAITING:
            return "waiting"
        return "solving"

    def to_dict(self) -> dict[str, Any]:
        """Return what is shown of it, as JSON values."""
        ready = self.condition(READY) or ConditionRow(type=READY)
        status = self.status
        metrics, solved_by = status.metrics or _Metrics(), status.solved_by or _SolvedBy()
        quality = status.result or _Quality()
        if self.state == "solving" and status.progress is not None:
            quality = status.progress
        return {
            "namespace": self.metadata.namespace,
            "name": self.metadata.name,
            "type": self.spec.type,
            "state": self.state,
            "ready": ready.status,
            "reason": ready.reason or None,
            "message": ready.message or None,
            "solvedBy": solved_by.name,
            "fallbackReason": solved_by.fallback_reason,
            "score": metrics.score,
            "gap": _number(quality.gap),
            "durationMs": metrics.duration_ms,
            "createdAt": self.metadata.creation_timestamp or None,
            "completedAt": status.completion_time,
        }


class _ListMetadata(msgspec.Struct):
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct, Generic[_T]):
    metadata: _ListMetadata
    items: list[_T] = []


_REQUEST_PAGE: Final = msgspec.json.Decoder(_Page[RequestRow], strict=False)
_OBJECT_PAGE: Final = msgspec.json.Decoder(_Page[dict[str, Any]])
REQUEST_DECODER: Final = msgspec.json.Decoder(RequestRow, strict=False)


async def list_requests(connection: Connection, namespace: str = "", selector: str = "") -> list[RequestRow]:
    """Return the requests of a namespace, by namespace and name.

    Parameters
    ----------
    connection
        To the API server.
    namespace
        Empty for all.
    selector
        Of labels; empty for none.

    Raises
    ------
    ApiError, UnavailableError
        As `Connection.request` does.
    """
    params = {"labelSelector": selector} if selector else {}
    return await _all(connection, requests_path(namespace), params, _REQUEST_PAGE)


async def list_plugins(connection: Connection) -> list[dict[str, Any]]:
    """Return the OptimizerPlugins, whole. Raises as `list_requests` does."""
    return await _all(connection, collection_path(PLUGIN), {}, _OBJECT_PAGE)


async def list_objects(connection: Connection, path: str, selector: str = "") -> list[dict[str, Any]]:
    """Return the objects of any collection, whole. Raises as `list_requests` does."""
    params = {"labelSelector": selector} if selector else {}
    return await _all(connection, path, params, _OBJECT_PAGE)


async def _all(
    connection: Connection, path: str, params: Mapping[str, str], decoder: msgspec.json.Decoder[_Page[_T]]
) -> list[_T]:
    for _ in range(MAX_GONE):
        try:
            return [item async for item in _pages(connection, path, {**params, "limit": str(PAGE_SIZE)}, decoder)]
        except ApiError as error:
            if error.status != 410:
                raise
    # The pages took so long that the server has forgotten their moment: all in one has none to forget.
    return [item async for item in _pages(connection, path, params, decoder)]


async def _pages(
    connection: Connection, path: str, params: Mapping[str, str], decoder: msgspec.json.Decoder[_Page[_T]]
) -> AsyncIterator[_T]:
    asked = dict(params)
    while True:
        page = decoder.decode(await connection.request("GET", path, params=asked))
        for item in page.items:
            yield item
        if not page.metadata.continue_:
            return
        asked["continue"] = page.metadata.continue_


def _is_true(condition: ConditionRow | None) -> bool:
    return condition is not None and condition.status == "True"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
