"""The OpenAPI document: what the framework makes of the routes, put right where it does not know better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from engine_ops.server.authentication import ANONYMOUS_PATHS
from engine_ops.server.documented import REFERENCE, FieldError, Problem

API_VERSION: Final = "v1"
"""Of the interface, as in its paths; a release that changes nothing of it changes nothing of the document."""

_DESCRIPTION: Final = """\
Optimisation questions over HTTP, answered by the same engine, plugins and workers that answer OptimizationRequests.

Errors are problem details (RFC 9457), with the path of each field at fault."""

_FRAMEWORKS_OWN: Final = ("HTTPValidationError", "ValidationError")
_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete"})


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _made(app)
    return app.openapi_schema


def _made(app: FastAPI) -> dict[str, Any]:
    made: dict[str, Any] = get_openapi(
        title="Engine-Ops", version=API_VERSION, description=_DESCRIPTION, routes=app.routes
    )
    schemas: dict[str, Any] = made.setdefault("components", {}).setdefault("schemas", {})
    for name in _FRAMEWORKS_OWN:
        schemas.pop(name, None)
    for model in (Problem, FieldError):
        schema = model.model_json_schema(by_alias=True, ref_template=f"{REFERENCE}{{model}}")
        schema.pop("$defs", None)
        if model is Problem:
            # Some kinds have further members, as the RFC allows.
            schema["additionalProperties"] = True
        schemas[model.__name__] = schema
    made["components"]["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token that the API server knows, such as one of `kubectl create token`.",
        }
    }
    made["security"] = [{"bearer": []}]
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            if method in _METHODS:
                _put_right(operation, anonymous=path in ANONYMOUS_PATHS)
    return made


def _put_right(operation: dict[str, Any], *, anonymous: bool) -> None:
    if anonymous:
        operation["security"] = []
    responses: dict[str, Any] = operation["responses"]
    if _is_frameworks(responses.get("422", {})):
        # It adds its own form of errors wherever there is a parameter; here every string is a name that may exist.
        del responses["422"]
    operation["responses"] = dict(sorted(responses.items()))


def _is_frameworks(response: Mapping[str, Any]) -> bool:
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return bool(schema.get("$ref") == f"{REFERENCE}{_FRAMEWORKS_OWN[0]}")
