"""From pydantic's JSON schema to what the API server takes: a structural OpenAPI v3 schema.

The rules are those of "Specifying a structural schema" in the Kubernetes documentation: nothing by reference, one
type for each node, no ``additionalProperties: false`` (unknown fields are refused by the API server itself).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from engine_ops.api.fields import INT32_MAX

Schema = dict[str, Any]

_DROPPED: Final = frozenset({"title", "additionalProperties", "const"})
_KEPT: Final = frozenset(
    {"description", "type", "format", "default", "enum", "properties", "required", "items", "anyOf", "pattern"}
    | {"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties"}
)
_ORDER: Final = ("description", "type", "format", "default", "enum")


def structural_schema(model: type[BaseModel]) -> Schema:
    """Return the structural schema of a model, with nothing by reference.

    Raises
    ------
    ValueError
        If a field's type has no structural form, such as a union, or pydantic writes something that the API server
        does not know; the message names the field.
    """
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(schema, schema.pop("$defs", {}), model.__name__)


def _convert(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    node = _resolve(node, definitions, path)
    converted: Schema = {}
    for key, value in node.items():
        if key == "properties":
            converted[key] = {name: _convert(child, definitions, f"{path}.{name}") for name, child in value.items()}
        elif key == "additionalProperties" and isinstance(value, dict):
            converted[key] = _convert(value, definitions, f"{path}.*")
        elif key == "items":
            converted[key] = _convert(value, definitions, f"{path}[]")
        elif key == "description":
            converted[key] = " ".join(value.split())
        elif key in _KEPT or key.startswith("x-kubernetes-"):
            if not (key == "default" and value is None):
                converted[key] = value
        elif key not in _DROPPED or isinstance(value, dict):
            # The API server drops what it does not know: a bound would be lost without a word.
            raise ValueError(f"{path}: {key} has no place in a structural schema")
    if "const" in node:
        converted["enum"] = [node["const"]]
    if converted.get("type") == "integer":
        converted["format"] = "int32" if converted.get("maximum", INT32_MAX + 1) <= INT32_MAX else "int64"
    elif converted.get("type") == "number":
        converted["format"] = "double"
    if "type" not in converted and not converted.get("x-kubernetes-int-or-string"):
        raise ValueError(f"{path}: no structural schema for {node}")
    first = {key: converted[key] for key in _ORDER if key in converted}
    return first | {key: value for key, value in converted.items() if key not in first}


def _resolve(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    """Follow references and drop null from unions; what stands beside them (description, default) wins."""
    resolved = dict(node)
    while True:
        if "$ref" in resolved:
            target = definitions[resolved.pop("$ref").removeprefix("#/$defs/")]
            resolved = {**target, **resolved}
        elif resolved.get("x-kubernetes-int-or-string"):
            resolved["anyOf"] = [{"type": "integer"}, {"type": "string"}]
            return resolved
        elif "anyOf" in resolved:
            options = [option for option in resolved.pop("anyOf") if option != {"type": "null"}]
            if len(options) != 1:
                raise ValueError(f"{path}: a union has no structural schema")
            resolved = {**options[0], **resolved}
        else:
            return resolved
