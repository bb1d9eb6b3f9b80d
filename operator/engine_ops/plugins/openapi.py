"""The interface of plugin services as an OpenAPI document, made of the types that both sides read and write."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import textwrap
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from engine_ops.plugins.service_messages import (
    JSON_TYPE,
    PROBLEM_TYPE,
    DataPoint,
    FieldFault,
    Health,
    History,
    HistoryKept,
    Optimize,
    PluginInfo,
    Problem,
    Reply,
    ServiceStruct,
    Training,
    TrainingDone,
    Validate,
    Workload,
)

OPENAPI_VERSION: Final = "3.1.0"
INTERFACE_VERSION: Final = "v1alpha1"

_POINT: Final = DataPoint(
    timestamp=1_767_225_600_000,
    request_type="ml-driven",
    resource_usage={"cpu": 1.5, "memory": 2.0**30},
    duration=92_000.0,
    success=True,
    metadata={
        "namespace": "shop",
        "name": "import",
        "workload": {"namespace": "shop", "kind": "Job", "name": "import"},
        "request": {"rows": 1000},
    },
)

_EXAMPLES: Final[Mapping[type[ServiceStruct], ServiceStruct]] = {
    DataPoint: _POINT,
    FieldFault: FieldFault(path="config.scale", message="Input should be greater than 0"),
    Health: Health(ok=True, instance="5f0c", waiting=0, busy_seconds=0.0),
    History: History(feed="a3f1", reset=True, size=1, points=[_POINT]),
    HistoryKept: HistoryKept(points=1, instance="5f0c"),
    Optimize: Optimize(
        id="shop/import",
        type="ml-driven",
        data={"rows": 2000, "workload": {"namespace": "shop", "kind": "Job", "name": "import"}},
        timestamp=1_767_229_200_000,
        namespace="shop",
        workload=Workload(namespace="shop", kind="Job", name="import"),
    ),
    PluginInfo: PluginInfo(
        name="rate-per-row",
        version="1.0.0",
        description="Durations of import jobs",
        types=["ml-driven"],
        config_schema={"type": "object", "properties": {"scale": {"type": "number", "exclusiveMinimum": 0}}},
        has_model=True,
        is_trained=False,
        model_id="rate-per-row",
        instance="5f0c",
    ),
    Problem: Problem(
        title="Unprocessable Content",
        status=422,
        detail="config.scale: Input should be greater than 0",
        stage="config",
        errors=[FieldFault(path="config.scale", message="Input should be greater than 0")],
    ),
    Reply: Reply(
        success=True,
        result={"expected_duration": 184_000.0},
        confidence=0.8,
        model_id="rate-per-row",
        is_trained=True,
        duration_us=120,
        instance="5f0c",
    ),
    Training: Training(points=[_POINT]),
    TrainingDone: TrainingDone(model_id="rate-per-row", samples=1, digest="sha256:0123456789ab", is_trained=True),
    Validate: Validate(config={"scale": 2.0}),
    Workload: Workload(namespace="shop", kind="Job", name="import"),
}


class _Operation(NamedTuple):
    method: str
    path: str
    name: str
    summary: str
    takes: type[ServiceStruct] | None
    gives: type[ServiceStruct] | None
    refuses: Mapping[int, str]
    is_required: bool


_BODY: Final = {
    400: "The body is no JSON.",
    413: "The body is too long.",
    415: "The body is not application/json.",
    422: "The body is not as it must be; `errors` names the fields.",
}
_BUSY: Final = {503: "Too much to do, or not yet ready; `Retry-After` says when to come again."}
_FAILED: Final = {422: "The body is not as it must be, or the plugin rejects it: then there is a `stage`."}

_OPERATIONS: Final = (
    _Operation("get", "/info", "info", "What the plugin is", None, PluginInfo, {**_FAILED, **_BUSY}, True),
    _Operation("get", "/healthz", "healthz", "Whether the service lives", None, Health, {503: "It is stuck."}, True),
    _Operation(
        "post", "/validate", "validate", "Check and use settings", Validate, PluginInfo, _BODY | _FAILED | _BUSY, False
    ),
    _Operation("post", "/optimize", "optimize", "Answer a request", Optimize, Reply, _BODY | _BUSY, True),
    _Operation(
        "post",
        "/history",
        "history",
        "Take what is new of the history",
        History,
        HistoryKept,
        {**_BODY, 409: "The points before these are not here.", **_BUSY},
        False,
    ),
    _Operation("post", "/train", "train", "Train the model", Training, TrainingDone, _BODY | _FAILED | _BUSY, False),
    _Operation("get", "/openapi.json", "openapi", "This document", None, None, {}, False),
)


@functools.cache
def _schemas() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(list(_EXAMPLES), ref_template="#/components/schemas/{name}")
    for kind, example in _EXAMPLES.items():
        schema = components[kind.__name__]
        schema["description"] = inspect.cleandoc(kind.__doc__ or "")
        for name, text in _field_docs(kind).items():
            schema["properties"][name]["description"] = text
        schema["examples"] = [msgspec.to_builtins(example)]
    return components


def document() -> dict[str, Any]:
    """Return the document, as JSON values; the caller's own."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in _OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation)
    made = {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Engine-Ops plugin service",
            "version": INTERFACE_VERSION,
            "description": "What a plugin answers that runs in its own Pods. A service that does not offer a path "
            "answers 404 to it. Whoever reads ignores fields that it does not know.",
        },
        "paths": paths,
        "components": {"schemas": _schemas()},
    }
    copied: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))
    return copied


def _described(operation: _Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    if not operation.is_required:
        described["description"] = "Optional."
    if operation.takes is not None:
        described["requestBody"] = {"required": True, "content": _content(JSON_TYPE, operation.takes)}
    done = {"type": "object"} if operation.gives is None else operation.gives
    described["responses"] = {
        "200": {"description": "Done.", "content": _content(JSON_TYPE, done)},
        **{
            str(status): {"description": text, "content": _content(PROBLEM_TYPE, Problem)}
            for status, text in sorted(operation.refuses.items())
        },
    }
    return described


def _content(media_type: str, kind: type[ServiceStruct] | dict[str, str]) -> dict[str, Any]:
    schema = kind if isinstance(kind, dict) else {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {media_type: {"schema": schema}}


def _field_docs(kind: type[ServiceStruct]) -> dict[str, str]:
    """Return the docstring below each field, by the field's name in JSON. Without sources there are none."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, SyntaxError):
        return {}
    names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    docs: dict[str, str] = {}
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = ast.literal_eval(below.value)
            docs[names[field.target.id]] = " ".join(text.split())
    return docs
