"""The API server: its version, our definitions in it, and what stands in the way of our objects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from engine_ops import __version__
from engine_ops.api.base import GROUP, VERSION
from engine_ops.api.crd import RESOURCES, Resource
from engine_ops.cli.checks.finding import Finding, finding, note, ok, unknown
from engine_ops.kube.connection import Connection
from engine_ops.kube.glance import part_of
from engine_ops.kube.reading import list_objects

OLDEST_MINOR: Final = 29
"""Of Kubernetes 1.x: the CEL rules of the definitions need it."""
MAX_PATHS: Final = 4

_CHECK: Final = "definitions"
_APPLY: Final = "engine-ops crds | kubectl apply --server-side --force-conflicts -f -"
_UPGRADE: Final = "install the engine-ops of the same release on this machine"
_FREE_OF_MEANING: Final = frozenset({"description"})
_WEBHOOKS: Final = "webhooks"


async def check_server(connection: Connection) -> Finding:
    """Look at the server's version.

    Raises
    ------
    ApiError
        If it does not know the user.
    UnavailableError
        If it cannot be reached.
    """
    part = await part_of(connection.get("/version"))
    if part.error is not None and part.error.status == 401:
        raise part.error
    if part.value is None:
        return note("server", f"{connection.server} does not tell its version")
    version = part.value.get("gitVersion", "")
    number = re.match(r"v1\.(\d+)", version)
    if number is not None and int(number[1]) < OLDEST_MINOR:
        message = f"{connection.server} is Kubernetes {version}; 1.{OLDEST_MINOR} is the oldest that serves"
        return finding("server", message, "upgrade the cluster")
    return ok("server", f"{connection.server}, Kubernetes {version}")


async def check_definitions(connection: Connection) -> list[Finding]:
    """Compare the custom resource definitions that are served with those of this version."""
    discovery = await part_of(connection.get(f"/apis/{GROUP}/{VERSION}"))
    if discovery.error is not None:
        return [unknown(_CHECK, discovery.error)]
    served = {resource["name"] for resource in (discovery.value or {}).get("resources", ())}
    absent = [resource.name for resource in RESOURCES if resource.plural not in served]
    if absent:
        return [finding(_CHECK, f"the API server does not know {', '.join(absent)} in version {VERSION}", _APPLY)]
    found = [await _compare(connection, resource) for resource in RESOURCES]
    return [one for one in found if one is not None] or [
        ok(_CHECK, f"{', '.join(resource.plural for resource in RESOURCES)} are those of engine-ops {__version__}")
    ]


async def _compare(connection: Connection, resource: Resource) -> Finding | None:
    part = await part_of(connection.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{resource.name}"))
    if part.error is not None:
        message = f"{resource.name} is served; whether as of this version is not known: {part.error.message}"
        return note(_CHECK, message)
    versions = (part.value or {}).get("spec", {}).get("versions", ())
    there: Mapping[str, Any] = next((version for version in versions if version.get("name") == VERSION), {})
    ours = resource.to_crd()["spec"]["versions"][0]
    paths = list(differences(ours["schema"]["openAPIV3Schema"], there.get("schema", {}).get("openAPIV3Schema", {})))
    if not paths:
        return None
    more = f" and {len(paths) - MAX_PATHS} more" if len(paths) > MAX_PATHS else ""
    newer = all(what == "has" for what, _ in paths)
    listed = ", ".join(f"{what} {path}" for what, path in paths[:MAX_PATHS])
    which = "a later version than" if newer else "another version than"
    message = f"{resource.name} is of {which} engine-ops {__version__}: it {listed}{more}"
    return finding(_CHECK, message, _UPGRADE if newer else _APPLY)


def differences(ours: Any, there: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield what differs between two schemas: ``lacks``, ``has`` or ``differs in``, and where, by field.

    Descriptions do not count.

    Parameters
    ----------
    ours, there
        Of this version, and of the API server.
    path
        Of the field that they are of; empty for the whole object.
    """
    if not (isinstance(ours, Mapping) and isinstance(there, Mapping)):
        if ours != there:
            yield "differs in", path or "."
        return
    mine, theirs = ours.get("properties") or {}, there.get("properties") or {}
    for name in sorted({*mine, *theirs}):
        inner = f"{path}.{name}" if path else name
        if name not in theirs:
            yield "lacks", inner
        elif name not in mine:
            yield "has", inner
        else:
            yield from differences(mine[name], theirs[name], inner)
    nested = [name for name in ("items", "additionalProperties") if name in ours and name in there]
    for name in nested:
        yield from differences(ours[name], there[name], f"{path}[]")
    done = {*_FREE_OF_MEANING, "properties", *nested}
    if {key: ours[key] for key in ours if key not in done} != {key: there[key] for key in there if key not in done}:
        yield "differs in", path or "."


async def check_webhooks(connection: Connection) -> Finding | None:
    """Look for webhooks of others that can refuse our objects; None where there are none, or they may not be read."""
    named = []
    for kind in ("validating", "mutating"):
        path = f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations"
        part = await part_of(list_objects(connection, path))
        for configuration in part.value or ():
            named += [
                f"{configuration['metadata']['name']} ({kind})"
                for webhook in configuration.get("webhooks") or ()
                if webhook.get("failurePolicy", "Fail") == "Fail" and any(map(_concerns_us, webhook.get("rules") or ()))
            ]
    if not named:
        return None
    message = f"requests and plugins pass through {', '.join(dict.fromkeys(named))}, and are refused while it is down"
    return note(_WEBHOOKS, message)


def _concerns_us(rule: Mapping[str, Any]) -> bool:
    return bool({GROUP, "*"} & set(rule.get("apiGroups") or ()))


async def check_metrics(connection: Connection) -> Finding:
    """Look whether the cluster serves what workloads use."""
    part = await part_of(connection.get("/apis/metrics.k8s.io/v1beta1"))
    if part.value is not None:
        return ok("metrics", "metrics.k8s.io is served")
    if part.error is not None and part.error.status != 503:
        return unknown("metrics", part.error)
    why = "is registered and does not answer" if part.error is not None else "is not served"
    message = f"metrics.k8s.io {why}: what workloads use stays unknown, and only durations and ends are learned from"
    return note("metrics", message, "install metrics-server, if usage is to be learned from")
