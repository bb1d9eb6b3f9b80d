"""The base of every model: camelCase outside, snake_case inside, unknown fields refused."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict
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
