"""The condition, as every Kubernetes resource has it."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from engine_ops.api.base import ResourceModel
from engine_ops.api.fields import INTEGRAL, MAX_COUNT, Timestamp

MAX_MESSAGE_LENGTH: Final = 32768
"""The API server refuses a longer condition message."""


class Condition(ResourceModel):
    """One observation of the object's state."""

    type: Annotated[str, Field(min_length=1, max_length=316, pattern=r"^[A-Z][A-Za-z0-9]*$")]
    """What is observed: Ready, Reconciling, Stalled and so on. Unique in the list."""
    status: Literal["True", "False", "Unknown"]
    """Whether it is so: True, False or Unknown."""
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Z][A-Za-z0-9]*$")]
    """Why, as one CamelCase word for programs."""
    message: Annotated[str, Field(max_length=MAX_MESSAGE_LENGTH)]
    """Why, as a sentence for people; it names the field where one is wrong. May be empty."""
    last_transition_time: Timestamp
    """When status last changed from one value to another."""
    observed_generation: Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT), INTEGRAL] | None = None
    """The metadata.generation that this condition was set for."""


LIST_MAP_BY_TYPE: Final[dict[str, Any]] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}

Conditions = Annotated[list[Condition], Field(max_length=16, json_schema_extra=LIST_MAP_BY_TYPE)]
