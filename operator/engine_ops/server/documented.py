"""What routes say of themselves in the OpenAPI document: examples, errors, how bodies look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from engine_ops.api.base import ApiModel
from engine_ops.server.problems import MEDIA_TYPE, TITLES, TYPE_PREFIX

REFERENCE: Final = "#/components/schemas/"


class FieldError(ApiModel):
    """A field at fault."""

    field: Annotated[str, Field(examples=["data.items[0].cpu"])]
    """Its path, or the name of the parameter."""
    detail: Annotated[str, Field(examples=["Input should be greater than 0"])]
    """What is wrong with it."""


class Problem(ApiModel):
    """An error: problem details as RFC 9457 has them. Some have further members, such as `manager`."""

    type: Annotated[str, Field(examples=[TYPE_PREFIX + "invalid"])]
    """A URN that ends in a word for the kind of the error."""
    title: Annotated[str, Field(examples=["The request is not valid"])]
    """The kind in words."""
    status: Annotated[int, Field(ge=400, le=599, examples=[422])]
    """As in the status line."""
    detail: Annotated[str, Field(examples=["data.items[0].cpu: Input should be greater than 0."])]
    """What happened here, and what to do."""
    errors: list[FieldError] | None = None
    """Each field at fault, at most 50."""


ALWAYS: Final = ("unauthenticated", "forbidden", "too-many-requests", "unavailable")
"""What any call that needs a token may answer. A 500 is not foreseen: it is a defect."""

_SAYS: Final[Mapping[str, str]] = {
    "unauthenticated": "This needs a bearer token.",
    "forbidden": "ada may not list optimizerplugins of the API group engineops.dev.",
    "too-many-requests": "Try again in 1 s, and less often.",
    "unavailable": "The engine is ending. Try again.",
    "busy": "As many requests are being answered as there is room for. Try again.",
    "not-found": "There is no plugin 'my-plugin'; GET /api/v1/plugins lists those there are.",
    "managed": "spec.enabled is managed by argocd-controller, which would change it back: change it there, or add "
    "?force=true.",
    "conflict": "Nothing can be changed here.",
    "malformed": "The body is not JSON.",
    "namespace-missing": "ada is no ServiceAccount, which would have a namespace of its own: add "
    "?namespace= to the URL.",
    "too-large": "The body is longer than 10485760 bytes; nothing of it was used.",
    "invalid": "query parameter from: must be a time such as 2026-01-02T03:04:05Z, or epoch milliseconds.",
    "not-installed": "Parquet needs pyarrow, which is not installed here.",
}


def problems(*kinds: str, always: bool = True) -> dict[int | str, dict[str, Any]]:
    """Return what an operation may answer beside success, for ``responses`` of a route.

    Parameters
    ----------
    kinds
        Of `TITLES`.
    always
        Add `ALWAYS`.
    """
    by_status: dict[int, list[str]] = {}
    for kind in (*kinds, *(ALWAYS if always else ())):
        by_status.setdefault(TITLES[kind][0], []).append(kind)
    return {
        status: {
            "description": "; ".join(TITLES[kind][1] for kind in dict.fromkeys(alike)),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": f"{REFERENCE}Problem"},
                    "examples": {kind: {"value": _example(kind)} for kind in alike},
                }
            },
        }
        for status, alike in sorted(by_status.items())
    }


def shown(description: str, example: Any, model: type[ApiModel]) -> dict[str, Any]:
    """Return what an operation answers when all is well, for one of ``responses``."""
    return {"description": description, "model": model, "content": {"application/json": {"example": example}}}


def taken(model: type[ApiModel], example: Any) -> dict[str, Any]:
    """Return what an operation takes, for ``openapi_extra`` of a route that reads its body itself."""
    schema = model.model_json_schema(by_alias=True, ref_template=f"{REFERENCE}{{model}}")
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


def _example(kind: str) -> dict[str, Any]:
    status, title = TITLES[kind]
    detail = _SAYS.get(kind, f"{title}.")
    body: dict[str, Any] = {"type": TYPE_PREFIX + kind, "title": title, "status": status, "detail": detail}
    if kind == "invalid":
        sentence = detail.partition(": ")[2].removesuffix(".")
        body["errors"] = [{"field": "from", "detail": sentence}]
    if kind == "managed":
        body |= {"manager": "argocd-controller", "fields": ["spec.enabled"]}
    return body
