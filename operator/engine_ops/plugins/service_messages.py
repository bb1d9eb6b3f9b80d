"""What goes over HTTP to and from a plugin that runs as a service: JSON in camelCase, typed on both sides.

The meaning of each message is that of its namesake in `engine_ops.plugins.messages`; `engine_ops.plugins.openapi` makes
the document of them that authors in other languages read. Fields may be added: whoever reads ignores what it does not
know.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from engine_ops.ml.data_point import WorkloadDataPoint

MAX_BODY_BYTES: Final = 10 * 2**20
"""Of a request to a service, training apart."""

MAX_TRAIN_BODY_BYTES: Final = 64 * 2**20
"""Of ``POST /train``."""

MAX_STATE_BYTES: Final = 5 * 2**20
"""Of a model's state over HTTP: written in base64 it must fit into a reply."""

JSON_TYPE: Final = "application/json"
PROBLEM_TYPE: Final = "application/problem+json"

NOT_OFFERED: Final = frozenset({404, 405, 501})
"""How a service says that it has no such path."""

RequestType = Literal["resource", "scheduling", "performance", "ml-driven"]
Stage = Literal["import", "config", "init", "load", "train"]
JSONObject = dict[str, Any]

_Text = Annotated[str, Meta(max_length=4096)]
_Name = Annotated[str, Meta(min_length=1, max_length=253)]
_Count = Annotated[int, Meta(ge=0)]


class ServiceStruct(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """The base of what goes over HTTP."""


class PluginInfo(ServiceStruct, frozen=True, kw_only=True):
    """What the plugin is. Answer of ``GET /info`` and ``POST /validate``."""

    name: _Name
    version: _Name
    """Of the plugin."""
    description: _Text = ""
    author: _Text | None = None
    types: list[RequestType]
    """The types of request that it can handle."""
    config_schema: JSONObject | None = None
    """JSON schema of its settings, if it has one."""
    has_model: bool = False
    """Whether `POST /train` trains something."""
    is_trained: bool | None = None
    """Whether the model is trained; absent where that is not known."""
    model_id: str = ""
    instance: str = ""
    """Changes when the service starts anew and has forgotten its settings, its history or its model: it then gets them
    again. A service that forgets nothing leaves it out."""
    concurrency: Annotated[int, Meta(ge=1, le=64)] = 1
    """How many requests it wants at a time."""


class Validate(ServiceStruct, frozen=True, kw_only=True):
    """Check the settings, and use them from now on. Answered with `PluginInfo`, or a `Problem` with status 422."""

    config: JSONObject = {}
    """The plugin's own settings."""
    state: str = ""
    """Base64: a trained model to go on with, as the `Training` answer had it."""


class Workload(ServiceStruct, frozen=True, kw_only=True):
    """The workload that a request is about."""

    namespace: str = ""
    kind: str = ""
    name: str = ""


class Optimize(ServiceStruct, frozen=True, kw_only=True):
    """Answer a request. Answered with `Reply`."""

    id: _Name
    """Of the request. The same request may come twice."""
    type: RequestType
    data: Any
    """The problem, as the request's author wrote it: an object."""
    constraints: JSONObject = {}
    timestamp: int | None = None
    """When it was asked: epoch milliseconds."""
    namespace: str | None = None
    """Of the request."""
    workload: Workload | None = None


class Reply(ServiceStruct, frozen=True, kw_only=True):
    """What the plugin says to a request."""

    success: bool
    """Whether there is a result. That there is none is no fault."""
    result: Any = None
    """An answer in the type's shape, advice, or a prediction."""
    error: _Text | None = None
    """Why there is no result."""
    failed: bool = False
    """Whether there is none because the plugin failed: an exception, say."""
    confidence: Annotated[float, Meta(ge=0, le=1)] | None = None
    """As the plugin has it: it is shown, and not relied on."""
    model_id: Annotated[str, Meta(min_length=1, max_length=253)] | None = None
    """Of the model that answered."""
    is_trained: bool | None = None
    duration_us: _Count = 0
    """Time in the plugin, microseconds."""
    instance: str = ""
    """See `PluginInfo`."""


class DataPoint(ServiceStruct, frozen=True, kw_only=True):
    """What became of one request, or of one workload that was observed."""

    timestamp: int
    """When it was asked for or began: epoch milliseconds."""
    request_type: str
    resource_usage: dict[str, float | None]
    """Amount by resource: cores, bytes; null where it is not known."""
    duration: float | None = None
    """How long it took, milliseconds; null where that is not known."""
    success: bool
    metadata: JSONObject = {}


class History(ServiceStruct, frozen=True, kw_only=True):
    """Points that the service does not have yet. Answered with `HistoryKept`, or a `Problem` with status 409."""

    feed: str = ""
    """Who sends. A service that holds points of another feed, or none, answers 409 where ``reset`` is false, and then
    gets all points again."""
    reset: bool = False
    """Forget all points before adding these."""
    size: _Count
    """When the points are added, the newest so many are the history; older ones are to be forgotten."""
    points: list[DataPoint] = []
    """Oldest first."""


class HistoryKept(ServiceStruct, frozen=True, kw_only=True):
    """The points were added."""

    points: _Count
    """How many the service holds now."""
    instance: str = ""
    """See `PluginInfo`."""


class Training(ServiceStruct, frozen=True, kw_only=True):
    """Train the model. Answered with `TrainingDone`, or a `Problem` with status 422."""

    points: list[DataPoint] | None = None
    """Oldest first; instead of the history. Without them, the model is trained on what came by ``POST /history``."""
    replay: Optimize | None = None
    """A request to be tried with the history, by plugins that learn from being asked."""


class TrainingDone(ServiceStruct, frozen=True, kw_only=True):
    """The model is trained, and answers from now on."""

    model_id: str = ""
    samples: _Count = 0
    """How many points it was given."""
    digest: Annotated[str, Meta(max_length=128)] = ""
    """Of the model, such as ``sha256:...``; a new model has another."""
    state: str = ""
    """Base64, at most 5 MiB before it: what the service wants to get back, by `Validate`, when it has started anew."""
    training_metadata: JSONObject = {}
    """What the model tells of its training."""
    is_trained: bool | None = None
    duration_ms: _Count = 0


class Health(ServiceStruct, frozen=True, kw_only=True):
    """The service lives. Answer of ``GET /healthz``."""

    ok: bool
    """Always true with status 200."""
    instance: str = ""
    """See `PluginInfo`."""
    waiting: _Count = 0
    """Requests that wait for their turn."""
    busy_seconds: Annotated[float, Meta(ge=0)] = 0.0
    """How long the call that runs now has been running."""


class FieldFault(ServiceStruct, frozen=True, kw_only=True):
    """One field that is wrong."""

    path: str
    """Such as ``config.scale`` or ``data.nodes[3]``."""
    message: str


class Problem(ServiceStruct, frozen=True, kw_only=True):
    """What went wrong: RFC 9457, with two members of our own. Has the content type application/problem+json."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    """The HTTP status."""
    detail: str = ""
    """One sentence for people."""
    stage: Stage | None = None
    """At what the plugin failed; absent where the request itself was wrong."""
    errors: list[FieldFault] = []


def to_wire_point(point: WorkloadDataPoint) -> DataPoint:
    """Return a point of the history as it goes over HTTP; what `WorkloadDataPoint.further` holds stays behind."""
    return DataPoint(
        timestamp=point.timestamp,
        request_type=point.request_type,
        # NaN is encoded as null: JSON has no word for it.
        resource_usage=dict(point.resource_usage),
        duration=point.duration if math.isfinite(point.duration) else None,
        success=point.success,
        metadata=point.metadata,
    )


def of_wire_point(point: DataPoint) -> WorkloadDataPoint:
    """Return the point that came over HTTP.

    Raises
    ------
    TypeError, ValueError
        If a value is out of range; the message names the field.
    """
    return WorkloadDataPoint(
        point.timestamp,
        point.request_type,
        {name: math.nan if amount is None else amount for name, amount in point.resource_usage.items()},
        math.nan if point.duration is None else point.duration,
        point.success,
        point.metadata,
    )
