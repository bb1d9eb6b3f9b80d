"""Where objects live below the API server's root."""

from __future__ import annotations

import dataclasses
from typing import Final

from engine_ops.api import optimizationrequest, optimizerplugin
from engine_ops.api.base import GROUP, VERSION


@dataclasses.dataclass(frozen=True, slots=True)
class ResourceKind:
    """One of our own kinds.

    Parameters
    ----------
    kind
        As manifests have it.
    plural
        As paths have it.
    """

    kind: str
    plural: str


REQUEST: Final = ResourceKind(optimizationrequest.KIND, optimizationrequest.PLURAL)
PLUGIN: Final = ResourceKind(optimizerplugin.KIND, optimizerplugin.PLURAL)


def object_path(kind: ResourceKind, namespace: str, name: str, subresource: str = "") -> str:
    """Return the path of an object of ours, or of one of its subresources. Cluster-scoped ones have no namespace."""
    path = f"{collection_path(kind, namespace)}/{name}"
    return f"{path}/{subresource}" if subresource else path


def collection_path(kind: ResourceKind, namespace: str = "") -> str:
    """Return the path of all objects of a kind, of a namespace or of the whole cluster."""
    where = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{where}/{kind.plural}"


def request_path(namespace: str, name: str, subresource: str = "") -> str:
    """Return the path of an OptimizationRequest, or of one of its subresources."""
    return object_path(REQUEST, namespace, name, subresource)


def requests_path(namespace: str = "") -> str:
    """Return the path of all OptimizationRequests of a namespace, or of all namespaces."""
    return collection_path(REQUEST, namespace)


def config_map_path(namespace: str, name: str = "") -> str:
    """Return the path of a ConfigMap, or of all ConfigMaps of a namespace."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    return f"{path}/{name}" if name else path
