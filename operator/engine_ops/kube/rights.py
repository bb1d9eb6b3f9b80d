"""Which rights somebody has: the user, or the operator's ServiceAccount."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final

from engine_ops.kube.connection import Connection
from engine_ops.kube.preflight import (
    NEEDED_FOR_CLUSTER_DATA,
    NEEDED_FOR_OBSERVING,
    NEEDED_FOR_OUTCOMES,
    NEEDED_FOR_THE_API,
    NEEDED_FOR_THE_HISTORY,
    NEEDED_FOR_THE_LEASE,
    NEEDED_FOR_THE_MODELS,
    NEEDED_IN_WATCHED_NAMESPACES,
    NEEDED_TO_ASK_PLUGINS,
    NEEDED_TO_TELL_OF_PLUGINS,
    Right,
    is_allowed,
)

_AT_ONCE: Final = 8

STATUSES_OF_PLUGINS: Final = "the statuses of plugins"


@dataclasses.dataclass(frozen=True, slots=True)
class Need:
    """Rights that the operator needs for one purpose.

    Parameters
    ----------
    purpose
        In words.
    rights
        All of them.
    without
        What happens without them.
    file
        Of ``manifests/base``, with the rules that grant them.
    required
        Whether the operator does not even start without them.
    """

    purpose: str
    rights: tuple[Right, ...]
    without: str
    file: str
    required: bool = False


def needs_of(namespace: str, watched: Sequence[str]) -> dict[str, Need]:
    """Return what an operator needs, by a word for each purpose.

    Parameters
    ----------
    namespace
        The operator's own.
    watched
        The namespaces that it is told to watch; empty for all.
    """
    places: Sequence[str | None] = watched or [None]

    def everywhere(rights: Iterable[Right]) -> tuple[Right, ...]:
        return tuple(dataclasses.replace(right, namespace=place) for place in places for right in rights)

    def at_home(rights: Iterable[Right]) -> tuple[Right, ...]:
        return tuple(dataclasses.replace(right, namespace=namespace) for right in rights)

    return {
        "requests": Need(
            "answering requests",
            everywhere(NEEDED_IN_WATCHED_NAMESPACES),
            "the operator ends at its start",
            "rbac_operator.yaml",
            required=True,
        ),
        "lease": Need(
            "the Lease",
            at_home(NEEDED_FOR_THE_LEASE),
            "the operator ends at its start",
            "rbac_lease.yaml",
            required=True,
        ),
        "history": Need(
            "the history",
            at_home(NEEDED_FOR_THE_HISTORY),
            "it stays in memory, and is gone with the Pod",
            "rbac_history.yaml",
        ),
        "models": Need(
            "trained models",
            at_home(NEEDED_FOR_THE_MODELS),
            "plugins are trained again after a restart",
            "rbac_history.yaml",
        ),
        "plugins": Need("plugins", NEEDED_TO_ASK_PLUGINS, "no plugin is asked", "rbac_plugins.yaml"),
        "plugin statuses": Need(
            STATUSES_OF_PLUGINS,
            NEEDED_TO_TELL_OF_PLUGINS,
            "they are asked, and another operator has to write their statuses",
            "rbac_plugins.yaml",
        ),
        "outcomes": Need(
            "outcomes of workloads",
            everywhere(NEEDED_FOR_OUTCOMES),
            "the history knows no outcomes",
            "rbac_outcomes.yaml",
        ),
        "cluster data": Need(
            "questions about the cluster",
            NEEDED_FOR_CLUSTER_DATA,
            "requests with spec.dataFrom.cluster wait with reason Forbidden",
            "rbac_cluster_data.yaml",
        ),
        "api": Need(
            "the REST API", NEEDED_FOR_THE_API, "the operator ends at its start", "rbac_api.yaml", required=True
        ),
        "observing": Need(
            "observing namespaces", NEEDED_FOR_OBSERVING, "--observe records nothing", "rbac_observe.yaml"
        ),
    }


_OVERLAY: Final = "manifests/overlays/namespaced"
_AS_ROLES: Final = frozenset({"rbac_operator.yaml", "rbac_outcomes.yaml"})
"""What an operator of some namespaces needs in these alone."""
_CLUSTER_SCOPED: Final = frozenset({"rbac_plugins.yaml", "rbac_api.yaml"})
_LEFT_OUT: Final = frozenset({"rbac_cluster_data.yaml", "rbac_observe.yaml"})


def how_to_grant(need: Need, namespace: str, watched: Sequence[str]) -> str:
    """Return how the rights of a need are granted, by the manifests that the operator is of.

    Parameters
    ----------
    need
        What for.
    namespace
        The operator's own.
    watched
        The namespaces that it is told to watch; empty for all. Its own alone is what ``manifests/overlays/namespaced``
        tells it.
    """
    if tuple(watched) != (namespace,):
        if watched and need.file in _AS_ROLES:
            return f"in {', '.join(watched)}: a Role with the rules of manifests/base/{need.file}, and a RoleBinding"
        return f"kubectl apply --server-side -f manifests/base/{need.file}"
    if need.file in _LEFT_OUT:
        return f"{_OVERLAY} leaves it out on purpose; the rules are in manifests/base/{need.file}"
    if need.purpose == STATUSES_OF_PLUGINS:
        return f"where no other operator writes them, add manifests/components/plugin-status to {_OVERLAY}"
    apply = f"kubectl apply --server-side -k {_OVERLAY}, or your kustomization of it"
    return f"{apply}, by a cluster administrator" if need.file in _CLUSTER_SCOPED else apply


async def missing(connection: Connection, rights: Iterable[Right], user: str | None = None) -> list[Right]:
    """Return the rights that are not granted.

    Parameters
    ----------
    connection
        To the API server.
    rights
        Which are asked for.
    user
        A ServiceAccount's whole name, such as ``system:serviceaccount:shop:web``; None for the one who asks.

    Raises
    ------
    ApiError
        With status 403 where the one who asks may not ask about others.
    UnavailableError
        If the API server cannot be reached.
    """
    turns, asked = asyncio.Semaphore(_AT_ONCE), list(dict.fromkeys(rights))

    async def allowed(right: Right) -> bool:
        async with turns:
            return await is_allowed(connection, right, user)

    granted = await asyncio.gather(*(allowed(right) for right in asked))
    return [right for right, is_granted in zip(asked, granted, strict=True) if not is_granted]
