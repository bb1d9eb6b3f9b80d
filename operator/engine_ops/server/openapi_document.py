"""The OpenAPI document: what the framework makes of the routes, put right where it does not know better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from engine_ops.server.authentication import ANONYMOUS_PATHS
from engine_ops.server.documented import REFERENCE, FieldError, Problem
from engine_ops.server.problems import MEDIA_TYPE

API_VERSION: Final = "v1"
"""Of the interface, as in its paths; a release that changes nothing of it changes nothing of the document."""

_DESCRIPTION: Final = """\
Optimisation questions over HTTP, answered by the same engine, plugins and workers that answer OptimizationRequests.

Errors are problem details (RFC 9457), with the path of each field at fault."""

_FRAMEWORKS_OWN: Final = ("HTTPValidationError", "ValidationError")
_EVENTS: Final = "text/event-stream"
_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete"})
_VALUES: Final = frozenset({"default", "example", "examples", "enum", "const"})
"""Keys of a schema whose values are no schemas."""


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _made(app)
    return app.openapi_schema


def _made(app: FastAPI) -> dict[str, Any]:
    made: dict[str, Any] = get_openapi(
        title="Engine-Ops", version=API_VERSION, description=_DESCRIPTION, routes=app.routes
    )
    components: dict[str, Any] = made.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    for name in _FRAMEWORKS_OWN:
        schemas.pop(name, None)
    for model in (Problem, FieldError):
        schema = model.model_json_schema(by_alias=True, ref_template=f"{REFERENCE}{{model}}")
        schema.pop("$defs", None)
        schemas[model.__name__] = schema
    # Some kinds have further members, as the RFC allows.
    schemas[Problem.__name__]["additionalProperties"] = True
    for schema in schemas.values():
        _untitle(schema)
    shared: dict[str, Any] = {}
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            if method in _METHODS:
                _put_right(operation, shared, anonymous=path in ANONYMOUS_PATHS)
    components["schemas"] = dict(sorted(schemas.items()))
    components["responses"] = dict(sorted(shared.items()))
    components["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token that the API server knows, such as one of `kubectl create token`.",
        }
    }
    made["security"] = [{"bearer": []}]
    return made


def _put_right(operation: dict[str, Any], shared: dict[str, Any], *, anonymous: bool) -> None:
    """Correct an operation; errors that many have go to ``shared``."""
    if anonymous:
        operation["security"] = []
    for parameter in operation.get("parameters", ()):
        _untitle(parameter["schema"])
        parameter["schema"].pop("description", None)
        _unnull(parameter["schema"])
    for content in operation.get("requestBody", {}).get("content", {}).values():
        _untitle(content["schema"])
    responses: dict[str, Any] = operation["responses"]
    if _is_frameworks(responses.get("422", {})):
        # It adds its own form of errors wherever there is a parameter; here every string is a name that may exist.
        del responses["422"]
    for status, response in responses.items():
        # Version 3.1 of OpenAPI has no words for a stream of events: what stands there would be of the whole.
        response.get("content", {}).get(_EVENTS, {}).pop("schema", None)
        kinds = response.get("content", {}).get(MEDIA_TYPE, {}).get("examples")
        if kinds is not None:
            name = "-or-".join(kinds)
            shared[name] = response
            responses[status] = {"$ref": f"#/components/responses/{name}"}
    operation["responses"] = dict(sorted(responses.items()))


def _untitle(schema: Any) -> None:
    """Remove the titles, which are the names again."""
    if isinstance(schema, list):
        for item in schema:
            _untitle(item)
    elif isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for key, item in schema.items():
            if key == "properties":
                for below in item.values():
                    _untitle(below)
            elif key not in _VALUES:
                _untitle(item)


def _unnull(schema: dict[str, Any]) -> None:
    """Say of a parameter that can be left out what it can be, and not that it can be null: a URL has no null."""
    ways = [way for way in schema.get("anyOf", ()) if way != {"type": "null"}]
    if len(ways) == 1:
        del schema["anyOf"]
        schema |= ways[0]


def _is_frameworks(response: Mapping[str, Any]) -> bool:
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return bool(schema.get("$ref") == f"{REFERENCE}{_FRAMEWORKS_OWN[0]}")
