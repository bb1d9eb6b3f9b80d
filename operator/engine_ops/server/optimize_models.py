"""What `/api/v1/optimize` takes and answers, as the OpenAPI document describes it.

Requests are read, and answers written, without these models (`engine_ops.server.question_reading`, `answers`): a hit of
the result cache takes less time than pydantic does. They say what is wrong with a request that was refused, and tests
hold what is sent against them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from engine_ops.api.base import ApiModel
from engine_ops.api.fields import Count, Share
from engine_ops.engine.request import SolvedBy
from engine_ops.server.documented import FieldError

OLD_TYPES: Final = {"genetic": "resource", "simulated-annealing": "resource"}
"""Types of earlier clients, and as what they are treated."""

MAX_ID_LENGTH: Final = 253
MAX_SECONDS: Final = 3600.0
DEFAULT_SEARCH_SECONDS: Final = 1.0
DEFAULT_TIMEOUT_SECONDS: Final = 30.0

CANCELLED: Final = "Cancelled"
"""The reason where a request was cancelled before it had any answer."""
INTERRUPTED: Final = "Interrupted"
"""The reason where the operator ended first; to be asked again."""
INTERNAL_ERROR: Final = "InternalError"
"""The reason where there is a defect of the operator; its log says more."""

JobStatus = Literal["running", "done", "cancelled"]

REQUEST_EXAMPLE: Final[dict[str, Any]] = {
    "id": "web-tier",
    "type": "resource",
    "data": {
        "items": [
            {"id": "frontend", "cpu": 0.5, "memory": "1Gi", "count": 4},
            {"id": "cache", "cpu": 2, "memory": "6Gi"},
        ],
        "nodeCapacity": {"cpu": 4, "memory": "16Gi"},
    },
    "searchSeconds": 0,
}
RESPONSE_EXAMPLE: Final[dict[str, Any]] = {
    "requestId": "web-tier",
    "success": True,
    "reason": "Solved",
    "result": {
        "nodes": [{"items": [{"id": "frontend", "count": 4}, {"id": "cache"}]}],
        "nodesUsed": 1,
        "lowerBound": 1,
        "gap": 0.0,
    },
    "metrics": {"durationMs": 3, "score": 1.0},
    "solvedBy": {"algorithm": "best-fit-decreasing", "version": "1"},
}
LINKS_EXAMPLE: Final = {"self": "/api/v1/optimize/web-tier", "events": "/api/v1/optimize/web-tier/events"}
ACCEPTED_EXAMPLE: Final[dict[str, Any]] = {"requestId": "web-tier", "status": "running", "links": LINKS_EXAMPLE}
PROGRESS_EXAMPLE: Final[dict[str, Any]] = {"objective": 12.0, "lowerBound": 11.0, "gap": 0.09090909090909091}
JOB_EXAMPLE: Final[dict[str, Any]] = ACCEPTED_EXAMPLE | {"progress": PROGRESS_EXAMPLE}


class OptimizeRequest(ApiModel):
    """A question."""

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^[^\x00-\x1f\x7f]+$")]
    """The caller's name for it; the answer carries it. With `Prefer: respond-async` it stands in a URL, and may hold no
    `/`."""
    type: Literal["resource", "scheduling", "performance", "ml-driven", "genetic", "simulated-annealing"]
    """What kind of answer is asked for. genetic and simulated-annealing, which earlier clients send, are treated as
    resource."""
    data: dict[str, Any]
    """The problem, in the shape that the type asks for; the same as `spec.data` of an OptimizationRequest."""
    constraints: dict[str, Any] | None = None
    """What the answer must keep to, in the type's shape."""
    plugin: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """The only plugin to ask, by its name; `none` for no plugin. Without it the enabled plugins are asked by their
    priority."""
    search_seconds: Annotated[float, Field(strict=True, ge=0, le=MAX_SECONDS)] | None = None
    """For how long a better answer is searched for after the first one; 0 takes the first. 1 unless given, and never
    more than timeoutSeconds."""
    timeout_seconds: Annotated[float, Field(strict=True, ge=1, le=MAX_SECONDS)] | None = None
    """The hard limit: after it the best answer so far is given. 30 unless given."""


class OptimizeMetrics(ApiModel):
    """How long the answer took to make, and how good it is."""

    duration_ms: Count
    """Wall-clock milliseconds from the question to the answer; of an answer of the cache: when it was made."""
    score: Share | None = None
    """0 to 1, the same for every algorithm of a type; absent where it is not defined."""


class OptimizeResponse(ApiModel):
    """An answer, or why there is none."""

    request_id: str
    """The request's `id`."""
    success: bool
    """Whether everything that was asked for is in the result."""
    reason: str
    """One word for it, as in the condition Ready of an OptimizationRequest; or Cancelled, Interrupted, InternalError
    where an asynchronous request ended without an answer."""
    result: dict[str, Any] | None
    """The answer in the type's shape; where `success` is false, what could be answered all the same, or null."""
    error: str | None = None
    """Why `success` is false."""
    errors: list[FieldError] | None = None
    """Each field at fault of an asynchronous request. A synchronous one is answered with 422."""
    metrics: OptimizeMetrics
    """Time and quality."""
    solved_by: SolvedBy | None = None
    """What made the answer."""
    cut_off: str | None = None
    """Why the search ended early, if it did."""
    warnings: list[str] | None = None
    """What was done otherwise than asked."""


class Links(ApiModel):
    """Where an asynchronous request is."""

    self: str
    """GET tells its status, DELETE cancels it."""
    events: str
    """Its server-sent events."""


class BestSoFar(ApiModel):
    """The best answer so far, in the unit of its objective: nodes, or money. Null is unknown."""

    objective: float | None
    """Its value; smaller is better."""
    lower_bound: float | None
    """No answer can be better than this."""
    gap: float | None
    """(objective - lowerBound) / lowerBound."""


class OptimizeJob(ApiModel):
    """An asynchronous request."""

    request_id: str
    """The request's `id`."""
    status: JobStatus
    """`cancelled` where it was cancelled before it was done; there may be an answer all the same."""
    links: Links
    """Where it is."""
    progress: BestSoFar | None = None
    """The last improvement."""
    response: OptimizeResponse | None = None
    """The answer, once it has ended."""
