"""The request and the result of the library and of the REST API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

RequestType = Literal["resource", "scheduling", "performance", "ml-driven"]


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", use_attribute_docstrings=True
    )


class _Told(_Model):
    # A newer server may tell more than this version knows of.
    model_config = ConfigDict(extra="ignore")


class OptimizationRequest(_Model):
    """A question for `engine_ops.OptimizationEngine`."""

    id: Annotated[str, Field(min_length=1, max_length=253)]
    """Chosen by the caller; the result carries it."""
    type: RequestType
    """What kind of answer is asked for."""
    data: dict[str, Any]
    """The problem, in the type's shape."""
    constraints: dict[str, Any] | None = None
    """What the answer must keep to, in the type's shape."""
    plugin: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """The only plugin to ask, by its name; ``none`` for no plugin, None for any."""
    search_seconds: Annotated[float, Field(ge=0, le=3600)] | None = None
    """The budget for improving the answer; None takes the engine's."""


class OptimizationMetrics(_Told):
    """How long an answer took and how good it is."""

    duration_ms: int
    """Wall-clock milliseconds, whole."""
    score: float | None = None
    """0 to 1, the same for every algorithm of a type; None where it is not defined."""


class SolvedBy(_Told):
    """What made an answer."""

    algorithm: str | None = None
    """The built-in algorithm that made it, or that followed a plugin's advice."""
    version: str | None = None
    """Of the plugin where one answered, else of the algorithm."""
    plugin: str | None = None
    """The plugin that answered, or whose advice was followed."""
    role: Literal["answer", "advice", "prediction"] | None = None
    """What the plugin gave: the answer, advice, or a prediction that nothing can check."""
    model_id: str | None = None
    """The plugin's model."""
    confidence: float | None = None
    """The share of the model's last 100 scored predictions that were close enough, when the answer was made; None below
    30, and where nothing keeps count."""
    claimed_confidence: float | None = None
    """0 to 1, as the plugin has it."""
    fallback_reason: str | None = None
    """Why plugins that were asked did not answer, or not alone."""


class OptimizationResult(_Told):
    """An answer, or why there is none."""

    request_id: str
    """The request's ``id``."""
    success: bool
    """Whether everything that was asked for is in the result."""
    result: dict[str, Any] | None = None
    """The answer in the type's shape; a partial one where ``success`` is false and something could be placed."""
    error: str | None = None
    """Why ``success`` is false: a sentence that names the field where one is wrong."""
    reason: str
    """One word for it, of `engine_ops.api.reasons.Reason`."""
    metrics: OptimizationMetrics
    """Time and quality."""
    solved_by: SolvedBy | None = None
    """What made the answer; None where there is none."""
    cut_off: str | None = None
    """Why the search ended early, if it did; of the REST API."""
    warnings: Annotated[list[str], BeforeValidator(lambda given: given or [])] = Field(default_factory=list)
    """What was taken otherwise than it was said; of the REST API."""
