"""Changing an OptimizerPlugin as people do: enabling it, its priority, its configuration.

Whoever keeps the plugin's manifest elsewhere, such as in Git, changes it back. Who that is stands in
``metadata.managedFields``: a manager that owns the field by server-side apply, or one of `GITOPS_MANAGERS`. What
``kubectl patch``, ``edit`` and ``apply`` leave there (operation Update) is a person's last change and binds nobody.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from engine_ops.api.plugin_change import PluginChange, PluginManaged
from engine_ops.kube.connection import JSON_PATCH, Connection
from engine_ops.kube.errors import ApiError
from engine_ops.kube.paths import PLUGIN, object_path

API_MANAGER: Final = "engine-ops-api"
CLI_MANAGER: Final = "engine-ops-cli"
OWN_MANAGERS: Final = frozenset({"engine-ops", API_MANAGER, CLI_MANAGER})

GITOPS_MANAGERS: Final = frozenset(
    {
        "argocd-controller",  # Argo CD, since 2.5
        "argocd-application-controller",  # Argo CD where it creates, and before 2.5
        "kustomize-controller",  # Flux
        "helm-controller",  # Flux, for what Helm renders
        "helm",
        "fleetagent",  # Rancher Fleet
        "fleet-agent",
        "configsync",  # Config Sync
        "kapp",  # Carvel
        "kapp-controller",
    }
)
"""Managers that write back what a repository says, also where they do so without server-side apply."""
GITOPS_PREFIXES: Final = ("flux",)
"""Of further ones: ``flux``, ``flux-operator``, ``flux-client-side-apply``."""

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_LENGTH: Final = 253
_ATTEMPTS: Final = 6
"""The operator writes the status now and then, and each write moves the resource version."""


@dataclasses.dataclass(frozen=True, slots=True)
class Owner:
    """Somebody who would change it back.

    Parameters
    ----------
    manager, operation
        Of an entry of ``metadata.managedFields``; the operation is ``Apply`` or ``Update``.
    fields
        What it owns of what is to be changed, such as ``spec.enabled``.
    """

    manager: str
    operation: str
    fields: tuple[str, ...]


def owners_of(plugin: Mapping[str, Any], change: PluginChange) -> tuple[Owner, ...]:
    """Return who would change it back, those by server-side apply first.

    What would stay as it is has no owners: nobody would have anything to change back.

    Parameters
    ----------
    plugin
        An OptimizerPlugin as the API server shows it.
    change
        What is to be changed.
    """
    spec = plugin.get("spec") or {}
    changed = [name for name, value in change.values().items() if _canonical(spec.get(name)) != _canonical(value)]
    found = []
    for entry in (plugin.get("metadata") or {}).get("managedFields") or ():
        manager, operation = entry.get("manager") or "", entry.get("operation") or ""
        if manager in OWN_MANAGERS or not (operation == "Apply" or _is_gitops(manager)):
            continue
        fields = tuple(f"spec.{name}" for name in changed if _owns(entry.get("fieldsV1"), ("spec", name)))
        if fields:
            found.append(Owner(manager, operation, fields))
    return tuple(sorted(found, key=lambda owner: owner.operation != "Apply"))


def field_faults(error: ApiError) -> tuple[tuple[str, str], ...]:
    """Return field path and sentence of each cause that the API server gave with its refusal."""
    causes = error.details.get("causes") or ()
    return tuple((str(cause.get("field") or ""), str(cause.get("message") or "")) for cause in causes)


async def read_plugin(connection: Connection, name: str) -> dict[str, Any]:
    """Return a plugin as the API server shows it.

    Raises
    ------
    ApiError
        If the API server refuses; with status 404 also for what cannot be a name, which it is not asked for.
    UnavailableError
        If it cannot be reached.
    """
    return await connection.get(_path(name))


async def patch_plugin(
    connection: Connection, name: str, change: PluginChange, *, field_manager: str, force: bool = False
) -> dict[str, Any]:
    """Change a plugin, and return it as it is then. It takes the verbs get and patch.

    What is so already is no error, but takes the same rights.

    Parameters
    ----------
    connection
        Whoever's it is, in their name it is done.
    name
        Of the plugin.
    change
        What is to be changed.
    field_manager
        Under which name it stands in ``metadata.managedFields``.
    force
        Also where another manager owns the field; it is taken from that manager.

    Raises
    ------
    PluginManaged
        If another manager owns what is to be changed, the change is allowed and valid, and ``force`` is not set.
    ApiError
        If the API server refuses, in its own words; see `field_faults`.
    UnavailableError
        If it cannot be reached.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        plugin = await read_plugin(connection, name)
        owners = () if force else owners_of(plugin, change)
        try:
            # Somebody who may not change it hears that, not who manages it: the API server decides first.
            changed = await _patch(connection, name, plugin, change, field_manager, dry_run=bool(owners))
        except ApiError as error:
            if error.status == 409 and error.reason == "Conflict" and attempt < _ATTEMPTS:
                continue  # it was written since it was read, perhaps by a manager
            raise
        if owners:
            raise PluginManaged(owners[0].manager, owners[0].fields)
        return changed
    raise AssertionError("the last attempt returns or raises")


async def _patch(
    connection: Connection,
    name: str,
    plugin: Mapping[str, Any],
    change: PluginChange,
    field_manager: str,
    *,
    dry_run: bool,
) -> dict[str, Any]:
    # A JSON patch replaces the configuration as a whole, where a merge patch would keep what is not named. The version
    # makes it fail if the plugin was written since its managers were read.
    version = plugin["metadata"]["resourceVersion"]
    operations = [{"op": "replace", "path": "/metadata/resourceVersion", "value": version}]
    operations += [{"op": "add", "path": f"/spec/{field}", "value": value} for field, value in change.values().items()]
    params = {"fieldManager": field_manager} | ({"dryRun": "All"} if dry_run else {})
    body = msgspec.json.encode(operations)
    answer = await connection.request("PATCH", _path(name), body=body, content_type=JSON_PATCH, params=params)
    changed: dict[str, Any] = msgspec.json.decode(answer)
    return changed


def _path(name: str) -> str:
    """Return where a plugin is. A name from a user must not lead anywhere else."""
    if len(name) > _NAME_LENGTH or not _NAME.fullmatch(name):
        # As the API server says it, which would be asked for something else with such a path.
        message = f'optimizerplugins.engineops.dev "{name[:_NAME_LENGTH]}" not found'
        raise ApiError(404, {"reason": "NotFound", "message": message})
    return object_path(PLUGIN, "", name)


def _is_gitops(manager: str) -> bool:
    return manager in GITOPS_MANAGERS or manager.startswith(GITOPS_PREFIXES)


def _owns(fields: Any, path: Sequence[str]) -> bool:
    """Whether a set of fields (``fieldsV1``) has one, something below it, or an atomic one around it."""
    for part in path:
        fields = fields.get(f"f:{part}") if isinstance(fields, Mapping) else None
        if fields is None:
            return False
        if not fields:
            return True
    return True


def _canonical(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")
