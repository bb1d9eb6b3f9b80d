"""The CRDs: generated, structural, every field described and bounded, small."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
import yaml
from pydantic import Field

from engine_ops.api.base import ApiModel
from engine_ops.api.crd import RESOURCES, Resource, render
from engine_ops.api.crd_docs import render_docs
from engine_ops.api.crd_schema import structural_schema
from engine_ops.api.fields import FreeForm, PositiveQuantity
from engine_ops.api.rules import Rule, RuledModel

ROOT = Path(__file__).parents[2]
BY_KIND = pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)


def walk(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from walk(schema["additionalProperties"], f"{path}[]")


def nodes(resource: Resource) -> list[tuple[str, dict[str, Any]]]:
    """Return every node of spec and status."""
    properties = resource.to_schema()["properties"]
    return [node for part in ("spec", "status") for node in walk(properties[part], part)]


def test_the_files_are_as_generated() -> None:
    expected = {str(name): text for name, text in render().items()}
    assert {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "crds").glob("*.yaml")} == expected


def test_the_api_reference_is_as_generated() -> None:
    assert (ROOT / "docs" / "api-reference.md").read_text(encoding="utf-8") == render_docs(RESOURCES)


@BY_KIND
def test_the_yaml_is_the_definition(resource: Resource) -> None:
    assert yaml.safe_load(resource.to_yaml()) == resource.to_crd()


@BY_KIND
def test_every_node_is_described(resource: Resource) -> None:
    assert resource.to_schema()["description"]
    for path, node in nodes(resource):
        # The entries of a list of plain values are described by the list.
        if not (path.endswith("[]") and "properties" not in node):
            assert node.get("description", "").rstrip().endswith("."), path
            assert "  " not in node["description"], path
            assert "`" not in node["description"], path


@BY_KIND
def test_every_node_is_bounded(resource: Resource) -> None:
    for path, node in nodes(resource):
        if node.get("x-kubernetes-preserve-unknown-fields"):
            assert node["type"] == "object", path
            assert node["x-kubernetes-map-type"] == "atomic", path
            assert "properties" not in node, path
        elif node.get("x-kubernetes-int-or-string"):
            assert {"maxLength", "x-kubernetes-validations"} <= node.keys(), path
        elif node["type"] == "object" and "additionalProperties" in node:
            assert "properties" not in node, path
            assert "maxProperties" in node, path
        elif node["type"] == "object":
            assert node["properties"], path
        elif node["type"] == "array":
            assert {"items", "maxItems", "x-kubernetes-list-type"} <= node.keys(), path
        elif node["type"] == "string":
            assert "enum" in node or "maxLength" in node or node["format"] == "date-time", path
        elif node["type"] in ("integer", "number"):
            assert node["minimum"] < node["maximum"], path
            # The API server keeps bounds as 64-bit floats; another value would come back, a drift for GitOps.
            assert int(float(node["maximum"])) == node["maximum"], path
        else:
            assert node["type"] == "boolean", path


@BY_KIND
def test_the_schema_is_structural(resource: Resource) -> None:
    for path, node in nodes(resource):
        assert ("type" in node) != bool(node.get("x-kubernetes-int-or-string")), path
        assert node.keys().isdisjoint({"$ref", "$defs", "oneOf", "allOf", "title"}), path
        assert set(node.get("required", ())) <= node.get("properties", {}).keys(), path
        assert "default" not in node or node["default"] is not None, path


@BY_KIND
def test_fields_with_a_default_are_not_required(resource: Resource) -> None:
    for path, node in nodes(resource):
        for name in node.get("required", ()):
            assert "default" not in node["properties"][name], f"{path}.{name}"


@BY_KIND
def test_an_object_with_defaults_for_its_fields_is_filled_in_when_absent(resource: Resource) -> None:
    # The API server sets a nested default only where the parent is there.
    for path, node in walk(resource.to_schema()["properties"]["spec"], "spec"):
        for name, child in node.get("properties", {}).items():
            nested = [grandchild for grandchild in child.get("properties", {}).values() if "default" in grandchild]
            if nested and not child.get("required"):
                assert child.get("default") == {}, f"{path}.{name}"


@BY_KIND
def test_rules_have_a_message_that_stands_alone(resource: Resource) -> None:
    rules = [rule for _, node in walk(resource.to_schema(), "") for rule in node.get("x-kubernetes-validations", ())]
    assert rules
    for rule in rules:
        assert len(rule["message"]) <= 2048
        assert "\n" not in rule["message"]
        assert rule["reason"] in ("FieldValueInvalid", "FieldValueForbidden")


@BY_KIND
def test_the_definition_is_small(resource: Resource) -> None:
    # kubectl apply keeps it in an annotation of at most 256 KiB.
    assert len(json.dumps(resource.to_crd())) < 64 * 1024


@BY_KIND
def test_the_api_reference_names_every_field_rule_and_column(resource: Resource) -> None:
    reference = render_docs(RESOURCES)
    section = reference[reference.index(f"## {resource.kind}\n") :]
    for path, node in nodes(resource):
        if "." in path and not path.endswith("[]"):
            assert f"| `{path}` | " in section
            assert node["description"].replace("|", "\\|") in section
        for rule in node.get("x-kubernetes-validations", ()):
            assert rule["message"] in section
    for column in resource.columns:
        assert f"| {column.name}" in section


def test_tables_of_the_api_reference_are_rectangular() -> None:
    columns = None
    for line in render_docs(RESOURCES).splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        cells = len(line.replace("\\|", "").split("|"))
        assert columns in (None, cells), line
        columns = cells


class Colour(enum.StrEnum):
    """A colour."""

    RED = "red"


class Inner(RuledModel):
    """Inner."""

    text: Annotated[str, Field(max_length=5)] | None = None
    """Text
    over two lines."""
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.text)", lambda inner: inner.text is not None, "text must be set", "text"),
    )


def test_what_becomes_of_each_kind_of_field() -> None:
    class Outer(ApiModel):
        """Outer."""

        inner: Inner
        """The field's own words."""
        maybe: Inner | None = None
        """Maybe."""
        colour: Colour
        """Which."""
        fixed: Literal["only"] = "only"
        """Fixed."""
        small: Annotated[int, Field(ge=0, le=10)]
        """Small."""
        free: FreeForm | None = None
        """Free."""
        memory: PositiveQuantity = "1Gi"
        """Memory."""

    schema = structural_schema(Outer)
    properties = schema["properties"]
    assert schema["required"] == ["inner", "colour", "small"]
    text = {"description": "Text over two lines.", "type": "string", "maxLength": 5}
    rule = {
        "rule": "has(self.text)",
        "message": "text must be set",
        "reason": "FieldValueInvalid",
        "fieldPath": ".text",
    }
    inner = {"type": "object", "properties": {"text": text}, "x-kubernetes-validations": [rule]}
    assert properties["inner"] == {"description": "The field's own words.", **inner}
    assert properties["maybe"] == {"description": "Maybe.", **inner}
    assert properties["colour"] == {"description": "Which.", "type": "string", "enum": ["red"]}
    assert properties["fixed"] == {"description": "Fixed.", "type": "string", "default": "only", "enum": ["only"]}
    assert properties["small"] == {
        "description": "Small.", "type": "integer", "format": "int32", "minimum": 0, "maximum": 10
    }  # fmt: skip
    assert properties["free"] == {
        "description": "Free.",
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "x-kubernetes-preserve-unknown-fields": True,
    }
    memory = properties["memory"]
    assert "type" not in memory
    assert memory["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert memory["default"] == "1Gi"


def test_what_has_no_structural_form_is_refused() -> None:
    class Union(ApiModel):
        field: int | str

    class AnyValue(ApiModel):
        field: Any

    class Multiple(ApiModel):
        field: Annotated[int, Field(multiple_of=5)]

    for model in (Union, AnyValue, Multiple):
        with pytest.raises(ValueError, match=rf"^{model.__name__}\.field: "):
            structural_schema(model)
