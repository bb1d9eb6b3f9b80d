"""The history as the REST API shows it, and what of it can be asked for."""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from engine_ops.api.base import ApiModel
from engine_ops.api.fields import DNS_LABEL, MAX_COUNT

_FORM: Final = (
    r"(?P<date>\d{4}-\d{2}-\d{2})[Tt ](?P<time>\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?)(?P<zone>[Zz]|[+ -]\d{2}:\d{2})"
)
_TIME: Final = re.compile(_FORM, re.ASCII)
_WHOLE: Final = re.compile(r"-?[0-9]{1,16}")
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND: Final = datetime.timedelta(milliseconds=1)

NOT_A_TIME: Final = "must be a time such as 2026-01-02T03:04:05Z, or epoch milliseconds"
MAX_LIMIT: Final = 1_000_000


def parse_moment(text: object) -> int:
    """Return a moment in epoch milliseconds.

    Parameters
    ----------
    text
        RFC 3339, or epoch milliseconds. A space may stand for the ``+`` of a zone: in a query that is what an
        unescaped ``+`` means.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(text, str):
        if _WHOLE.fullmatch(text) and abs(int(text)) <= MAX_COUNT:
            return int(text)
        found = _TIME.fullmatch(text)
        if found:
            zone = found["zone"].upper().replace("Z", "+00:00").replace(" ", "+")
            # Digits below the microsecond are cut: datetime keeps none.
            whole, _, fraction = found["time"].partition(".")
            try:
                moment = datetime.datetime.fromisoformat(f"{found['date']}T{whole}.{fraction[:6]:0<6}{zone}")
                return (moment - _EPOCH) // _MILLISECOND
            except (ValueError, OverflowError):
                pass  # a thirteenth month, a 25th hour
    raise ValueError(NOT_A_TIME)


_Moment = Annotated[
    int,
    BeforeValidator(parse_moment),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "integer", "minimum": -MAX_COUNT, "maximum": MAX_COUNT, "description": "Epoch milliseconds."},
            ],
            "examples": ["2026-01-02T03:04:05Z", 1_767_225_600_000],
        }
    ),
]


class PointsQuery(ApiModel):
    """Which points."""

    model_config = ConfigDict(populate_by_name=False)

    namespace: Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)] | None = None
    """Only points of this namespace. Without it, those of all namespaces whose history the caller may read."""
    type: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Only points of this type of request."""
    from_: Annotated[_Moment | None, Field(alias="from")] = None
    """Only points that began then or later: RFC 3339, or epoch milliseconds."""
    to: _Moment | None = None
    """Only points that began then or earlier: RFC 3339, or epoch milliseconds."""
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] | None = None
    """The newest so many."""


class ExportQuery(PointsQuery):
    """Which points, and how they are written."""

    format: Literal["json", "jsonl", "parquet"] = "json"
    """json: one object. jsonl: one point a line. parquet: a file, where pyarrow is installed."""


class ExportedPoint(ApiModel):
    """One finished request, or one workload that was observed; as `WorkloadDataPoint.from_dict` reads it."""

    model_config = ConfigDict(extra="allow")

    timestamp: int
    """When it was asked for or began, in epoch milliseconds."""
    request_type: str
    """Such as resource or observed-job."""
    resource_usage: dict[str, float | None]
    """Amounts used, by resource: cores, bytes. null where one is not known."""
    duration: float | None
    """How long it took, in milliseconds. null where it is not known."""
    success: bool
    """Whether it succeeded."""
    metadata: dict[str, Any]
    """Whose it was, what was asked, what became of it."""


class Export(ApiModel):
    """Points of the history."""

    data: list[ExportedPoint]
    """The points, oldest first."""
    count: int
    """How many there are."""


class TypeStatistics(ApiModel):
    """Figures on the points of a type."""

    model_config = ConfigDict(alias_generator=None)

    count: int
    """How many points there are."""
    success_rate: float | None
    """The share that succeeded, 0 to 1."""
    avg_duration: float | None
    """Their mean duration, in milliseconds."""


class Statistics(ApiModel):
    """Figures on points of the history; null where there is nothing to count."""

    model_config = ConfigDict(alias_generator=None, extra="allow")

    total_requests: int
    """How many points there are."""
    success_rate: float | None
    """The share that succeeded, 0 to 1."""
    avg_duration: float | None
    """Their mean duration, in milliseconds."""
    p50_duration: float | None
    """The median of their durations, in milliseconds."""
    p95_duration: float | None
    """The 95th percentile of their durations, in milliseconds."""
    time_span_ms: int
    """From the oldest to the newest, in milliseconds."""
    by_type: dict[str, TypeStatistics]
    """The same for each type of request."""


class TrainingColumn(ApiModel):
    """A column of the table."""

    name: str
    """Its name, the key of its values in `data`."""
    unit: str
    """Such as ms, cores or bytes; empty for none."""
    description: str
    """What it holds."""


class TrainingFormat(ApiModel):
    """Points of the history as a table, column by column."""

    columns: list[TrainingColumn]
    """What each column holds, at most 64."""
    count: int
    """How many points there are."""
    data: dict[str, list[float | bool | str | None]]
    """The values of each column by its name, one for each point; null where a point has none."""
