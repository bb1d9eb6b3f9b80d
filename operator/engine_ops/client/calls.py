"""The calls of the API: what is sent, and what the answer means. Nothing is sent here; both clients share it."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import msgspec
import pydantic

from engine_ops.client.errors import EngineOpsError
from engine_ops.client.messages import Improvement, OptimizationState
from engine_ops.client.sse import ServerEvent
from engine_ops.engine.request import OptimizationRequest, OptimizationResult
from engine_ops.ml.data_point import WorkloadDataPoint

T = TypeVar("T")
M = TypeVar("M", bound=pydantic.BaseModel)

Moment = datetime.datetime | int | str
"""An aware datetime, milliseconds since the epoch, or RFC 3339."""

OPTIMIZE: Final = "/api/v1/optimize"
PLUGINS: Final = "/api/v1/plugins"
DATA: Final = "/api/v1/plugins/workload-data"


@dataclasses.dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call.

    Parameters
    ----------
    method, path, params, body, headers
        Of the request; the path begins after the base URL.
    read
        Makes the body of a good answer into what the caller gets.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def optimize(request: OptimizationRequest | Mapping[str, Any], namespace: str | None) -> Call[OptimizationResult]:
    """Ask, and wait for the answer."""
    return Call("POST", OPTIMIZE, _model(OptimizationResult), _in(namespace), _body(request), _JSON)


def submit(request: OptimizationRequest | Mapping[str, Any], namespace: str | None) -> Call[OptimizationState]:
    """Ask, and do not wait."""
    headers = {**_JSON, "Prefer": "respond-async"}
    return Call("POST", OPTIMIZE, _model(OptimizationState), _in(namespace), _body(request), headers)


def state(request_id: str) -> Call[OptimizationState]:
    """How an asynchronous request stands."""
    return Call("GET", _request_path(request_id), _model(OptimizationState))


def cancel(request_id: str) -> Call[OptimizationState]:
    """End an asynchronous request, and take the best so far."""
    return Call("DELETE", _request_path(request_id), _model(OptimizationState))


def events(request_id: str, last_id: str) -> Call[None]:
    """Follow an asynchronous request. The answer goes on; see `event_of`."""
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    return Call("GET", _request_path(request_id) + "/events", lambda _: None, headers=headers)


def event_of(event: ServerEvent) -> Improvement | OptimizationResult | None:
    """Return what an event tells; None for one that this client does not know.

    Raises
    ------
    EngineOpsError
        If it cannot be read.
    """
    if event.name == "improvement":
        return _model(Improvement)(event.data.encode())
    if event.name == "answer":
        return _model(OptimizationResult)(event.data.encode())
    return None


def look(path: str) -> Call[dict[str, Any]]:
    """Read an object as it is."""
    return Call("GET", path, decode_object)


def plugins() -> Call[list[dict[str, Any]]]:
    """List the plugins."""
    return Call("GET", PLUGINS, lambda body: list(decode_object(body).get("plugins") or []))


def plugin(name: str) -> Call[dict[str, Any]]:
    """Read one plugin."""
    return Call("GET", _plugin_path(name), decode_object)


def switch(name: str, *, on: bool, force: bool) -> Call[dict[str, Any]]:
    """Enable or disable a plugin."""
    path = _plugin_path(name) + ("/enable" if on else "/disable")
    return Call("POST", path, decode_object, _force(force))


def configure(
    name: str, *, enabled: bool | None, priority: int | None, config: Mapping[str, Any] | None, force: bool
) -> Call[dict[str, Any]]:
    """Change a plugin's settings; None for what stays."""
    changes = {"enabled": enabled, "priority": priority, "config": config}
    body = _encode({key: value for key, value in changes.items() if value is not None})
    return Call("PATCH", _plugin_path(name), decode_object, _force(force), body, _JSON)


def workload_data(
    what: str, *, type_: str | None, from_: Moment | None, to: Moment | None, namespace: str | None, **more: object
) -> Call[bytes]:
    """Read of the history: ``stats``, ``export`` or ``training-format``."""
    params = _in(namespace)
    for name, value in (("type", type_), ("from", _moment(from_)), ("to", _moment(to)), *more.items()):
        if value is not None:
            params[name] = str(value)
    return Call("GET", f"{DATA}/{what}", bytes, params)


def data_points(body: bytes) -> list[WorkloadDataPoint]:
    """Return the points of an export as JSON.

    Raises
    ------
    EngineOpsError
        If it is none.
    """
    try:
        return [WorkloadDataPoint.from_dict(point) for point in decode_object(body)["data"]]
    except (KeyError, TypeError, ValueError) as error:
        raise EngineOpsError(f"the answer is no export of data points: {error}") from error


_JSON: Final = {"Content-Type": "application/json"}


def _body(request: OptimizationRequest | Mapping[str, Any]) -> bytes:
    if isinstance(request, OptimizationRequest):
        return _encode(request.model_dump(by_alias=True, exclude_none=True))
    return _encode(dict(request))


def _encode(value: Mapping[str, Any]) -> bytes:
    # Not msgspec: it makes NaN null, and the question another.
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def decode_object(body: bytes) -> dict[str, Any]:
    """Return the object that an answer is.

    Raises
    ------
    EngineOpsError
        If it is none.
    """
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EngineOpsError(f"the answer is no JSON: {error}") from error
    if not isinstance(decoded, dict):
        raise EngineOpsError(f"the answer is no JSON object, but {type(decoded).__name__}")
    return decoded


def _model(model: type[M]) -> Callable[[bytes], M]:
    def read(body: bytes) -> M:
        try:
            return model.model_validate_json(body)
        except pydantic.ValidationError as error:
            raise EngineOpsError(f"the answer is not understood: {error}") from error

    return read


def _in(namespace: str | None) -> dict[str, str]:
    return {} if namespace is None else {"namespace": namespace}


def _force(force: bool) -> dict[str, str]:
    return {"force": "true"} if force else {}


def _request_path(request_id: str) -> str:
    return f"{OPTIMIZE}/{_segment(request_id, 'request_id')}"


def _plugin_path(name: str) -> str:
    return f"{PLUGINS}/{_segment(name, 'name')}"


def _segment(value: str, what: str) -> str:
    # Dots cannot be quoted: programs on the way would take them for steps up.
    if value in {"", ".", ".."}:
        raise ValueError(f"{what}: {value!r} cannot be part of a path")
    return quote(value, safe="")


def _moment(given: Moment | None) -> str | None:
    if isinstance(given, datetime.datetime):
        if given.tzinfo is None:
            raise ValueError("a datetime without a time zone is no moment: add tzinfo, such as datetime.UTC")
        return given.isoformat()
    return None if given is None else str(given)
