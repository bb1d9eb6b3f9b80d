"""What must be there before the operator can serve, told in sentences when it is not."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec

from engine_ops.api import optimizerplugin
from engine_ops.api.base import GROUP, VERSION
from engine_ops.api.optimizationrequest import PLURAL
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError, ConnectError


@dataclasses.dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str | None = None

    def __str__(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {resource}" + (f".{self.group}" if self.group else "")


NEEDED_IN_WATCHED_NAMESPACES = (
    Right("get", GROUP, PLURAL),
    Right("list", GROUP, PLURAL),
    Right("watch", GROUP, PLURAL),
    Right("delete", GROUP, PLURAL),
    Right("patch", GROUP, PLURAL, "status"),
    Right("get", "", "configmaps"),
    Right("create", "", "configmaps"),
    Right("patch", "", "configmaps"),
    Right("delete", "", "configmaps"),
    Right("create", "events.k8s.io", "events"),
)
NEEDED_FOR_CLUSTER_DATA = (
    *(Right(verb, "", resource) for resource in ("nodes", "pods", "namespaces") for verb in ("get", "list", "watch")),
    Right("get", "apps", "deployments"),
    Right("get", "apps", "replicasets"),
    Right("get", "apps", "statefulsets"),
    Right("get", "batch", "jobs"),
)
"""For spec.dataFrom.cluster, in all namespaces. Not checked at the start: without them only such requests wait."""
NEEDED_FOR_THE_HISTORY = tuple(
    Right(verb, "", "configmaps") for verb in ("get", "list", "create", "update", "patch", "delete")
)
"""In the operator's own namespace. Not checked at the start: without them the history stays in memory."""
NEEDED_FOR_THE_MODELS = tuple(Right(verb, "", "configmaps") for verb in ("get", "list", "create", "update", "delete"))
"""In the operator's own namespace. Not checked at the start: without them models are trained again after a restart."""
NEEDED_TO_ASK_PLUGINS = tuple(Right(verb, GROUP, optimizerplugin.PLURAL) for verb in ("get", "list", "watch"))
"""They are cluster-scoped. Without them no plugin is asked; see `why_no_plugins`."""
NEEDED_TO_TELL_OF_PLUGINS = (Right("patch", GROUP, optimizerplugin.PLURAL, "status"),)
"""Without it plugins are asked, and their statuses are another operator's to write; see `may_tell_of_plugins`."""
NEEDED_FOR_PLUGINS = (*NEEDED_TO_ASK_PLUGINS, *NEEDED_TO_TELL_OF_PLUGINS)
NEEDED_FOR_OUTCOMES = (
    *(Right(verb, "batch", "jobs") for verb in ("list", "watch")),
    Right("list", "", "pods"),
    *(Right("get", "apps", resource) for resource in ("deployments", "statefulsets", "daemonsets")),
    Right("list", "metrics.k8s.io", "pods"),
)
"""For spec.workloadRef and workloadSelector. Not checked at the start: without them outcomes stay unknown."""
NEEDED_FOR_OBSERVING = tuple(Right(verb, "", "namespaces") for verb in ("list", "watch"))
"""For the option --observe, besides the rights for outcomes."""
NEEDED_FOR_THE_API = (
    Right("create", "authentication.k8s.io", "tokenreviews"),
    Right("create", "authorization.k8s.io", "subjectaccessreviews"),
)
"""For the REST API, to know who calls and what they may do: the ClusterRole system:auth-delegator. See `why_no_api`."""
NEEDED_FOR_THE_LEASE = (
    Right("get", "coordination.k8s.io", "leases"),
    Right("create", "coordination.k8s.io", "leases"),
    Right("update", "coordination.k8s.io", "leases"),
)


async def check(connection: Connection, namespaces: Sequence[str], lease_namespace: str) -> None:
    """Check that the resources are defined and that the operator may do what it has to.

    Parameters
    ----------
    connection
        To the API server.
    namespaces
        Watched ones; empty for all.
    lease_namespace
        Where the Lease lives.

    Raises
    ------
    ConnectError
        With a sentence that says what is missing and what to do.
    ApiError, UnavailableError
        If the API server does not answer the questions.
    """
    await _check_crds(connection)
    watched: Sequence[str | None] = namespaces or [None]
    rights = [
        dataclasses.replace(right, namespace=namespace)
        for namespace in watched
        for right in NEEDED_IN_WATCHED_NAMESPACES
    ]
    rights += [dataclasses.replace(right, namespace=lease_namespace) for right in NEEDED_FOR_THE_LEASE]
    allowed = await asyncio.gather(*(is_allowed(connection, right) for right in rights))
    missing = [right for right, granted in zip(rights, allowed, strict=True) if not granted]
    if missing:
        listed = ", ".join(sorted({str(right) for right in missing}))
        where = f"namespace {missing[0].namespace}" if missing[0].namespace else "all namespaces"
        raise ConnectError(f"the operator lacks rights in {where}: {listed}. Apply manifests/base, or give it a Role.")


async def why_no_plugins(connection: Connection) -> str | None:
    """Return what keeps the operator from following OptimizerPlugins, as a sentence; None if nothing does.

    Raises
    ------
    ApiError, UnavailableError
        If the API server does not answer the questions.
    """
    if optimizerplugin.PLURAL not in await _served(connection):
        return (
            f"the API server does not know {optimizerplugin.PLURAL}.{GROUP}/{VERSION}. "
            "Apply it: kubectl apply --server-side -k crds"
        )
    allowed = await asyncio.gather(*(is_allowed(connection, right) for right in NEEDED_TO_ASK_PLUGINS))
    missing = [str(right) for right, granted in zip(NEEDED_TO_ASK_PLUGINS, allowed, strict=True) if not granted]
    if missing:
        return _lacks(missing, "rbac_plugins.yaml")
    return None


async def may_tell_of_plugins(connection: Connection) -> bool:
    """Return whether the operator may write the statuses of OptimizerPlugins.

    Raises
    ------
    ApiError, UnavailableError
        If the API server does not answer the question.
    """
    return all(await asyncio.gather(*(is_allowed(connection, right) for right in NEEDED_TO_TELL_OF_PLUGINS)))


async def why_no_api(connection: Connection) -> str | None:
    """Return what keeps the operator from serving the REST API, as a sentence; None if nothing does.

    Raises
    ------
    ApiError, UnavailableError
        If the API server does not answer the questions.
    """
    allowed = await asyncio.gather(*(is_allowed(connection, right) for right in NEEDED_FOR_THE_API))
    missing = [str(right) for right, granted in zip(NEEDED_FOR_THE_API, allowed, strict=True) if not granted]
    if missing:
        return _lacks(missing, "rbac_api.yaml")
    return None


def _lacks(rights: Sequence[str], file: str) -> str:
    return (
        f"the operator lacks rights in the cluster: {', '.join(rights)}. "
        f"Apply manifests/base/{file}, or the overlay that it is of"
    )


async def _served(connection: Connection) -> set[str]:
    """Return the names of what the API server serves of our group."""
    try:
        served = await connection.get(f"/apis/{GROUP}/{VERSION}")
    except ApiError as error:
        if error.status != 404:
            raise
        return set()
    return {resource["name"] for resource in served["resources"]}


async def _check_crds(connection: Connection) -> None:
    if PLURAL not in await _served(connection):
        raise ConnectError(
            f"the API server does not know {PLURAL}.{GROUP}/{VERSION}: the custom resource definitions are missing. "
            "Apply them: kubectl apply --server-side -k crds"
        )


async def is_allowed(connection: Connection, right: Right, user: str | None = None) -> bool:
    """Ask the API server whether somebody has a right.

    Parameters
    ----------
    connection
        To the API server.
    right
        Which.
    user
        A ServiceAccount's whole name, such as ``system:serviceaccount:shop:web``; None for the one who asks.

    Raises
    ------
    ApiError
        With status 403 where the one who asks may not ask about others.
    UnavailableError
        If the API server cannot be reached.
    """
    attributes = {
        "verb": right.verb,
        "group": right.group,
        "resource": right.resource,
        "subresource": right.subresource,
        "namespace": right.namespace or "",
    }
    kind, who = "SelfSubjectAccessReview", dict[str, Any]()
    if user is not None:
        kind, who = "SubjectAccessReview", {"user": user, "groups": _groups_of(user)}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": kind,
        "spec": {**who, "resourceAttributes": attributes},
    }
    path = f"/apis/authorization.k8s.io/v1/{kind.lower()}s"
    answer = msgspec.json.decode(await connection.request("POST", path, body=msgspec.json.encode(review)))
    return bool(answer["status"]["allowed"])


def _groups_of(user: str) -> list[str]:
    """Return the groups that the API server puts a ServiceAccount into."""
    namespace = user.split(":")[2]
    return ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
