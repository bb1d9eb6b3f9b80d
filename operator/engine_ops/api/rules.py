"""Rules that cross fields: one CEL expression for the API server, one Python predicate for use without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

from pydantic import GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from engine_ops.api.base import ResourceModel

FieldReason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """What must hold between the fields of one object.

    Parameters
    ----------
    cel
        The rule as a CEL expression over ``self``.
    holds
        The same rule over the pydantic model.
    message
        What the user reads, from the API server and offline alike. It names the fields.
    field
        The JSON name of the field that the error points at; None points at the object itself.
    reason
        The API server's machine-readable reason.
    """

    cel: str
    holds: Callable[[Any], bool]
    message: str
    field: str | None = None
    reason: FieldReason = "FieldValueInvalid"

    def to_schema(self) -> dict[str, str]:
        """Return the rule as an entry of ``x-kubernetes-validations``."""
        entry = {"rule": self.cel, "message": self.message, "reason": self.reason}
        if self.field is not None:
            entry["fieldPath"] = f".{self.field}"
        return entry


class RuledModel(ResourceModel):
    """A model with rules that cross its fields. Every broken rule is told, not only the first."""

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        broken = [
            InitErrorDetails(
                # The message goes in as a value: a brace in it must not be read as a placeholder.
                type=PydanticCustomError("rule", "{message}", {"message": rule.message}),
                loc=() if rule.field is None else (rule.field,),
                input=None,
            )
            for rule in self.rules
            if not rule.holds(self)
        ]
        if broken:
            raise ValidationError.from_exception_data(type(self).__name__, broken)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        if cls.rules:
            handler.resolve_ref_schema(schema)["x-kubernetes-validations"] = [rule.to_schema() for rule in cls.rules]
        return schema
