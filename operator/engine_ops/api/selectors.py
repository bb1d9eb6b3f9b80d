"""Label and field selectors, in the shapes of Kubernetes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from engine_ops.api.base import ResourceModel
from engine_ops.api.fields import ATOMIC_LIST, LabelText

FieldSelector = Annotated[str, Field(max_length=1024)]


class LabelRequirement(ResourceModel):
    """One requirement on a label."""

    key: Annotated[str, Field(min_length=1, max_length=317)]
    """The label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label's value and values compare."""
    values: Annotated[tuple[LabelText, ...], Field(max_length=256, json_schema_extra=ATOMIC_LIST)] | None = None
    """At least one for In and NotIn, none for Exists and DoesNotExist."""

    @model_validator(mode="after")
    def _values_fit_operator(self) -> Self:
        if self.operator in {"In", "NotIn"} and not self.values:
            raise ValueError(f"operator {self.operator} needs at least one of values")
        if self.operator in {"Exists", "DoesNotExist"} and self.values:
            raise ValueError(f"operator {self.operator} takes no values")
        return self


class LabelSelector(ResourceModel):
    """Chooses by labels; everything in it must hold. An empty one chooses all."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    match_labels: Annotated[dict[str, LabelText], Field(max_length=64)] | None = None
    """Labels with these values."""
    match_expressions: (
        Annotated[tuple[LabelRequirement, ...], Field(max_length=64, json_schema_extra=ATOMIC_LIST)] | None
    ) = None
    """Further requirements."""
