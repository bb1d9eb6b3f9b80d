"""Rights: the operator's, and those of who asks."""

from __future__ import annotations

import asyncio
from typing import Final

from engine_ops.api import optimizerplugin
from engine_ops.api.base import GROUP
from engine_ops.api.optimizationrequest import PLURAL
from engine_ops.cli.checks.finding import Finding, Level, finding, note, ok, unknown
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError
from engine_ops.kube.glance import Glance
from engine_ops.kube.preflight import Right
from engine_ops.kube.rights import Need, how_to_grant, missing, needs_of

_OPERATORS: Final = "operator's rights"
_OWN: Final = "own rights"


async def check_operators_rights(connection: Connection, glance: Glance) -> list[Finding]:
    """Ask whether the operator's ServiceAccount may do what it needs to; nothing where there is no Deployment."""
    deployment, namespace = glance.deployment.value, glance.namespace
    if deployment is None:
        return []
    user = f"system:serviceaccount:{namespace}:{deployment.service_account}"
    needs = needs_of(namespace, deployment.watched)
    unused = {
        "history": deployment.has("--no-history"),
        "models": deployment.has("--no-plugins"),
        "plugins": deployment.has("--no-plugins"),
        "plugin statuses": deployment.has("--no-plugins"),
        "outcomes": deployment.has("--no-history"),
        "observing": not deployment.has("--observe"),
        "api": not deployment.has("--api"),
    }
    wanted = [need for name, need in needs.items() if not unused.get(name)]
    # Nodes are the administrator's to show: whoever leaves that role out wants it so. And of several operators one
    # writes the statuses of plugins.
    chosen = {needs[name].purpose for name in ("cluster data", "outcomes", "plugin statuses")}
    try:
        lacking = await asyncio.gather(*(missing(connection, need.rights, user) for need in wanted))
    except ApiError as error:
        return [unknown(_OPERATORS, error)]
    found = [
        _lacks(need, rights, how_to_grant(need, namespace, deployment.watched), optional=need.purpose in chosen)
        for need, rights in zip(wanted, lacking, strict=True)
        if rights
    ]
    if any(one.level is Level.FINDING for one in found):
        return found
    return [ok(_OPERATORS, f"{namespace}/{deployment.service_account} has all that it must have"), *found]


def _lacks(need: Need, rights: list[Right], fix: str, *, optional: bool) -> Finding:
    named = ", ".join(f"{right}{f' in {right.namespace}' if right.namespace else ''}" for right in rights)
    message = f"for {need.purpose} it lacks {named}: {need.without}"
    return note(_OPERATORS, message, fix) if optional else finding(_OPERATORS, message, fix)


async def check_own_rights(connection: Connection, operator_namespace: str) -> Finding:
    """Ask what the user may do, in the namespace of the context."""
    home = connection.namespace
    abilities = {
        f"read requests in {home}": [Right(verb, GROUP, PLURAL, namespace=home) for verb in ("get", "list")],
        f"create requests in {home}": [Right("create", GROUP, PLURAL, namespace=home)],
        "read plugins": [Right("list", GROUP, optimizerplugin.PLURAL)],
        "enable and disable plugins": [Right("patch", GROUP, optimizerplugin.PLURAL)],
        f"read the history in {operator_namespace}": [
            Right(verb, "", "configmaps", namespace=operator_namespace) for verb in ("get", "list")
        ],
    }
    try:
        lacking = await asyncio.gather(*(missing(connection, rights) for rights in abilities.values()))
    except ApiError as error:
        return unknown(_OWN, error)
    granted = [name for name, lacks in zip(abilities, lacking, strict=True) if not lacks]
    refused = [name for name, lacks in zip(abilities, lacking, strict=True) if lacks]
    if not refused:
        return ok(_OWN, f"you may {', '.join(granted)}")
    may = f"you may {', '.join(granted)}; " if granted else ""
    fix = "ask for the roles view, edit or admin of the namespace, and for engine-ops-plugin-editor to switch plugins"
    return note(_OWN, f"{may}you may not {', '.join(refused)}", fix)
