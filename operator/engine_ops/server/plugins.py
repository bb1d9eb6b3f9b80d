"""`/api/v1/plugins`: what plugins there are, and their settings."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Path, Query, Request
from pydantic import ValidationError
from starlette.responses import Response

from engine_ops.api.fields import DNS_SUBDOMAIN
from engine_ops.api.optimizerplugin import PLURAL, RESERVED_NAMES
from engine_ops.api.plugin_change import PluginChange, PluginManaged
from engine_ops.server.authentication import caller_of, require, services_of
from engine_ops.server.backend import PluginInfo
from engine_ops.server.callers import Right
from engine_ops.server.documented import problems, shown, taken
from engine_ops.server.nesting import is_too_deep
from engine_ops.server.plugin_changes import PluginChangeRefused, PluginNotFound
from engine_ops.server.plugin_models import (
    EXAMPLE,
    ForceQuery,
    NoQuery,
    PluginDetails,
    PluginList,
    PluginPatch,
    wire,
    wire_details,
)
from engine_ops.server.problem_handlers import MAX_ERRORS, invalid
from engine_ops.server.problems import ProblemError
from engine_ops.server.replies import json_reply
from engine_ops.server.request_body import read_body

MAX_DEPTH: Final = 64
"""Of objects and arrays in each other in a plugin's settings."""

MAX_PATCH_BYTES: Final = 2**20
"""Of the body of a change: the API server keeps no object that is much longer."""

MAX_NAME_LENGTH: Final = 253

_KUBERNETES_NAME: Final = re.compile(DNS_SUBDOMAIN.removeprefix("^").removesuffix("$"))
_BODY_TYPES: Final = frozenset({"application/json", "application/merge-patch+json"})
_REFUSED: Final = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    409: "conflict",
    413: "too-large",
    422: "invalid",
    429: "too-many-requests",
}

_NAME = Annotated[str, Path(description="The plugin's name.", examples=[EXAMPLE.name])]
_FORCE = Annotated[ForceQuery, Query()]
_NONE = Annotated[NoQuery, Query()]
_ONE: Final[dict[int | str, dict[str, Any]]] = {200: shown("The plugin.", wire_details(EXAMPLE), PluginDetails)}
_CHANGED: Final[dict[int | str, dict[str, Any]]] = {
    200: shown("The plugin after it. Its `status` follows within seconds.", wire_details(EXAMPLE), PluginDetails),
    **problems("not-found", "managed", "conflict", "invalid"),
}


def router() -> APIRouter:
    """Return the routes. Those below ``workload-data`` have to stand before them."""
    routes = APIRouter(prefix="/api/v1/plugins", tags=["plugins"])
    routes.add_api_route(
        "",
        _list,
        operation_id="listPlugins",
        summary="List plugins",
        description="Needs the right to list optimizerplugins.",
        responses={
            200: shown("All plugins, by name.", {"plugins": [wire(EXAMPLE)], "count": 1}, PluginList),
            **problems("invalid"),
        },
    )
    routes.add_api_route(
        "/{name}",
        _show,
        operation_id="getPlugin",
        summary="Show a plugin",
        description="Needs the right to get the optimizerplugin.",
        responses={**_ONE, **problems("not-found", "invalid")},
    )
    routes.add_api_route(
        "/{name}",
        _patch,
        methods=["PATCH"],
        operation_id="patchPlugin",
        summary="Change a plugin's settings",
        description="Patches the OptimizerPlugin with the caller's own token: needs the right to patch it.",
        openapi_extra=taken(PluginPatch, {"priority": 20, "config": {"scale": 2.0}}),
        responses={**_CHANGED, **problems("malformed", "too-large", "unsupported-media-type", always=False)},
    )
    for word, handler in (("enable", _enable), ("disable", _disable)):
        routes.add_api_route(
            f"/{{name}}/{word}",
            handler,
            methods=["POST"],
            operation_id=f"{word}Plugin",
            summary=f"{word.capitalize()} a plugin",
            description="Patches the OptimizerPlugin with the caller's own token: needs the right to patch it. "
            "What is so already is no error.",
            responses=_CHANGED,
        )
    return routes


async def _list(request: Request, query: _NONE) -> Response:
    del query
    await require(request, Right("list", PLURAL))
    plugins = await services_of(request).engine.plugins()
    return json_reply({"plugins": [wire(plugin) for plugin in plugins], "count": len(plugins)})


async def _show(request: Request, name: _NAME, query: _NONE) -> Response:
    del query
    _check_name(request, name)
    await require(request, Right("get", PLURAL, name=name))
    plugin = await services_of(request).engine.plugin(name)
    if plugin is None:
        raise _not_found(name)
    return json_reply(wire_details(plugin))


async def _enable(request: Request, name: _NAME, query: _FORCE) -> Response:
    return await _change(request, name, PluginChange(enabled=True), force=query.force)


async def _disable(request: Request, name: _NAME, query: _FORCE) -> Response:
    return await _change(request, name, PluginChange(enabled=False), force=query.force)


async def _patch(request: Request, name: _NAME, query: _FORCE) -> Response:
    _check_name(request, name)
    return await _change(request, name, await _read_patch(request), force=query.force)


async def _change(request: Request, name: str, change: PluginChange, *, force: bool) -> Response:
    _check_name(request, name)
    services = services_of(request)
    if services.switch is None:
        raise ProblemError("conflict", "Plugins cannot be changed here: their settings come from a file.")
    try:
        # No right is asked for: the API server decides, to whom the caller's own token is shown.
        await services.switch.change(caller_of(request), name, change, force=force)
    except PluginNotFound:
        raise _not_found(name) from None
    except PluginManaged as error:
        raise ProblemError(
            "managed",
            f"{error}: change it there, or add ?force=true.",
            extra={"manager": error.manager, "fields": list(error.fields)},
        ) from None
    except PluginChangeRefused as error:
        raise _refused(error) from None
    return json_reply(wire_details(_after(await services.engine.plugin(name), name, change)))


def _after(plugin: PluginInfo | None, name: str, change: PluginChange) -> PluginInfo:
    """Return a plugin with what has been changed, of which the operator may not have heard yet."""
    if plugin is None:
        plugin = PluginInfo(name=name, version="", description="", types=(), enabled=True, priority=0, config={})
    return dataclasses.replace(
        plugin,
        enabled=plugin.enabled if change.enabled is None else change.enabled,
        priority=plugin.priority if change.priority is None else change.priority,
        config=plugin.config if change.config is None else change.config,
    )


def _refused(error: PluginChangeRefused) -> ProblemError:
    wait_seconds = error.retry_after_seconds
    return ProblemError(
        _REFUSED.get(error.status, "unavailable"),
        str(error),
        errors=error.faults,
        headers={} if wait_seconds is None else {"Retry-After": str(max(1, math.ceil(wait_seconds)))},
    )


def _check_name(request: Request, name: str) -> None:
    """Refuse what can be no plugin's name before anybody is asked about it.

    Raises
    ------
    ProblemError
        404.
    """
    possible = 0 < len(name) <= MAX_NAME_LENGTH and name.isprintable() and name not in {*RESERVED_NAMES, ".", ".."}
    # Without Kubernetes a plugin is called what it calls itself.
    if not possible or not (services_of(request).access.open or _KUBERNETES_NAME.fullmatch(name)):
        raise _not_found(name)


def _not_found(name: str) -> ProblemError:
    if name == RESERVED_NAMES[0]:
        return ProblemError("not-found", f"{name} is no plugin but the history: add /stats, /export, /training-format.")
    shown = name if len(name) <= MAX_NAME_LENGTH else f"{name[:MAX_NAME_LENGTH]}..."
    return ProblemError("not-found", f"There is no plugin {shown!r}; GET /api/v1/plugins lists those there are.")


async def _read_patch(request: Request) -> PluginChange:
    """Read the body of a PATCH.

    Raises
    ------
    ProblemError
        If it is none.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _BODY_TYPES:
        raise ProblemError("unsupported-media-type", "The body must be JSON, and Content-Type application/json.")
    text = await read_body(request, MAX_PATCH_BYTES)
    if is_too_deep(text, MAX_DEPTH):
        raise ProblemError("malformed", f"The body is nested more than {MAX_DEPTH} deep.")
    try:
        body = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        raise ProblemError("malformed", "The body is not JSON.") from None
    if isinstance(body, dict):
        # Of thousands of unknown fields each would be a fault, and some are as good.
        known = PluginPatch.model_fields
        unknown = [name for name in body if name not in known][:MAX_ERRORS]
        body = {name: body[name] for name in (*known, *unknown) if name in body}
    try:
        patch = PluginPatch.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise invalid([{**item, "loc": ("body", *item["loc"])} for item in found]) from None
    return PluginChange(**{field: getattr(patch, field) for field in patch.model_fields_set})
