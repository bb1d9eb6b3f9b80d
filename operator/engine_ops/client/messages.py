"""What an asynchronous request tells of itself."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from engine_ops.engine.request import OptimizationResult


class _Message(BaseModel):
    # A newer server may say more than this client knows of.
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", use_attribute_docstrings=True, frozen=True
    )


class Improvement(_Message):
    """The best answer so far is better than before."""

    objective: float | None = None
    """In the unit of the objective: nodes, or money."""
    lower_bound: float | None = None
    """Proven: no answer can be below it."""
    gap: float | None = None
    """``(objective - lower_bound) / lower_bound``."""


class OptimizationState(_Message):
    """How an asynchronous request stands."""

    request_id: str | None = None
    """Its id."""
    status: Literal["running", "done", "cancelled"] | str  # noqa: PYI051 - a newer server may know another
    """Whether it is still being answered."""
    progress: Improvement | None = None
    """The best so far, while it runs."""
    response: OptimizationResult | None = None
    """The answer, when there is one."""
