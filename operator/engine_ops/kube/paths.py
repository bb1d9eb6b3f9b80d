"""Where objects live below the API server's root."""

from __future__ import annotations

from engine_ops.api.base import GROUP, VERSION
from engine_ops.api.optimizationrequest import PLURAL


def request_path(namespace: str, name: str, subresource: str = "") -> str:
    """Return the path of an OptimizationRequest, or of one of its subresources."""
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{name}"
    return f"{path}/{subresource}" if subresource else path


def requests_path(namespace: str = "") -> str:
    """Return the path of all OptimizationRequests of a namespace, or of all namespaces."""
    where = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{where}/{PLURAL}"


def config_map_path(namespace: str, name: str = "") -> str:
    """Return the path of a ConfigMap, or of all ConfigMaps of a namespace."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    return f"{path}/{name}" if name else path
