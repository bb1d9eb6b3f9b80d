"""What the REST API says of itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from engine_ops.api.base import ApiModel


class Root(ApiModel):
    """What there is."""

    name: str
    """engine-ops."""
    version: str
    """Of the program."""
    links: dict[str, str]
    """Paths by what they are for."""


class Health(ApiModel):
    """Whether the engine answers."""

    status: Literal["ok", "degraded"]
    """degraded where requests may not be answered."""
    version: str
    """Of the program."""
    reason: str | None = None
    """Why it is degraded."""
    uptime_seconds: int
    """Since the start."""


class CacheStatistics(ApiModel):
    """Numbers of the result cache since the start."""

    model_config = ConfigDict(extra="allow")

    hits: int
    """How often an answer was there."""
    misses: int
    """How often it was not."""
    hit_ratio: float | None
    """The share of hits; null before the first question."""
    bypasses: int
    """How often a caller wanted none (`Cache-Control: no-cache`)."""
    entries: int
    """How many answers are kept."""
    max_entries: int
    """How many can be."""
    bytes: int
    """How large they are."""
    max_bytes: int
    """How large they can be."""
    stores: int
    """How many have been kept."""
    evictions: int
    """How many of them had to go for others."""
    too_large: int
    """How many were too large to be kept."""


class InFlight(ApiModel):
    """Questions that are being answered."""

    now: int
    """How many there are."""
    most: int
    """How many there can be; a further one is told to come later."""


class Durations(ApiModel):
    """How long the last questions took."""

    count: int
    """How many of them there are."""
    p50: float | None
    """The median, in milliseconds; null before the first."""
    p99: float | None
    """The 99th percentile, in milliseconds; null before the first."""


class Metrics(ApiModel):
    """Numbers since the start: of requests that came over HTTP, the cache, the plugins and the engine."""

    model_config = ConfigDict(extra="allow")

    requests: dict[str, int]
    """Questions by what became of them: cached, solved, unsolved, invalid, cancelled, abandoned, failed, refused."""
    in_flight: InFlight
    """Questions that are being answered."""
    duration_ms: Durations
    """How long the engine took for the last ones."""
    jobs: dict[str, int]
    """Asynchronous requests."""
    cache: CacheStatistics
    """Of the result cache."""
    plugins: dict[str, dict[str, Any]]
    """How each plugin is, by name."""
    engine: dict[str, Any]
    """Of the engine, by part."""
