"""The base of every model: camelCase outside, snake_case inside, unknown fields refused."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

GROUP: Final = "engineops.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "engineops.dev/v1alpha1"
CATEGORY: Final = "engineops"


class ApiModel(BaseModel):
    """What a user reads or writes. JSON and YAML are camelCase, Python is snake_case."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    def to_manifest(self) -> dict[str, Any]:
        """Return the object as JSON values with camelCase keys; fields that are None are absent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class ResourceModel(ApiModel):
    """A part of a Kubernetes resource. A null is no value, as at the API server: the field counts as absent."""

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        if isinstance(value, dict) and None in value.values():
            return {key: item for key, item in value.items() if item is not None}
        return value
