"""The data and the constraints of type ``performance``, as users write them."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from engine_ops.api.base import ApiModel
from engine_ops.api.quantity import Amount

MAX_SAMPLES = 200_000
MAX_CONTAINERS = 1_000

_T = TypeVar("_T")


def _not_empty(items: tuple[_T, ...]) -> tuple[_T, ...]:
    if not items:
        raise ValueError("must not be empty")
    return items


# pydantic's own minimum counts only the valid items of a tuple: a bad one would be two faults.
_NOT_EMPTY = AfterValidator(_not_empty)

Series = Annotated[tuple[Amount, ...], Field(max_length=MAX_SAMPLES), _NOT_EMPTY]
Quantile = Annotated[float, Field(gt=0, le=1)]
LimitRule = Literal["none", "request", "peak"]


class Pair(ApiModel):
    """An amount of each resource; either may be absent."""

    cpu: Amount | None = None
    """Cores."""
    memory: Amount | None = None
    """Bytes."""


class Current(ApiModel):
    """What the container has now, shown beside the answer."""

    requests: Pair = Field(default_factory=Pair)
    """Its requests."""
    limits: Pair = Field(default_factory=Pair)
    """Its limits."""


class ContainerSamples(ApiModel):
    """What a container used, oldest sample first."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """The container, unique."""
    cpu: Series
    """Cores."""
    memory: Series
    """Bytes."""
    current: Current | None = None
    """What it has now."""


Containers = Annotated[tuple[ContainerSamples, ...], Field(max_length=MAX_CONTAINERS), _NOT_EMPTY]


class Samples(ApiModel):
    """Samples of containers."""

    containers: Containers
    """The containers."""
    interval_seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """Time between two samples."""


class Bounds(ApiModel):
    """Between what the requests and limits stay."""

    min_cpu: Amount = 0.01
    """Cores; by default 10m, so that an idle container keeps a share of the processor."""
    max_cpu: Amount | None = None
    """Cores."""
    min_memory: Amount = 0.0
    """Bytes."""
    max_memory: Amount | None = None
    """Bytes."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, least, most in (("Cpu", self.min_cpu, self.max_cpu), ("Memory", self.min_memory, self.max_memory)):
            if most is not None and most <= 0:
                raise ValueError(f"max{name} must be above 0")
            if most is not None and least > most:
                raise ValueError(f"min{name} is above max{name}")
        return self


class Objective(ApiModel):
    """What is wanted. The defaults: p95 of cpu without a limit, the peak of memory with the same limit, 15 % more."""

    cpu_quantile: Quantile = 0.95
    """The share of samples that the cpu request covers, before the margin."""
    memory_quantile: Quantile = 1.0
    """The share of samples that the memory request covers, before the margin; 1 is the peak."""
    margin: Annotated[float, Field(ge=0, le=10)] = 0.15
    """What is added, as a part of the quantile."""
    cpu_limit: LimitRule = "none"
    """none; request: the same as the request; peak: the largest sample and the margin."""
    memory_limit: LimitRule = "peak"
    """As ``cpuLimit``. A limit below the peak has the container killed where it was not before."""
    confidence: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    """Of the interval from ``lowerBound`` to ``upperBound``."""
    bounds: Bounds = Field(default_factory=Bounds)
    """Between what the requests and limits stay."""


class PerformanceData(ApiModel):
    """The samples, and what is wanted."""

    samples: Samples
    """What the containers used; a plain list of containers will do."""
    objective: Objective = Field(default_factory=Objective)
    """What is wanted."""


class PerformanceListData(ApiModel):
    """The same with a plain list of containers."""

    samples: Containers
    """What the containers used."""
    objective: Objective = Field(default_factory=Objective)
    """What is wanted."""


class PerformanceConstraints(ApiModel):
    """None yet: bounds belong to ``data.objective``."""
