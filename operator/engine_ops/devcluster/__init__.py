"""A local Kubernetes control plane, without Docker: etcd, kube-apiserver and their friends, on loopback only.

>>> from engine_ops.devcluster import DevCluster
>>> with DevCluster.start() as cluster:  # doctest: +SKIP
...     cluster.add_nodes(3)
...     print(cluster.kubectl("get", "nodes").stdout)
"""

from __future__ import annotations

from engine_ops.devcluster.binaries import COMPONENTS, Binaries, ensure_binaries, find_binaries
from engine_ops.devcluster.certificates import KeyPair
from engine_ops.devcluster.client import ApiClient, ApiError
from engine_ops.devcluster.cluster import DevCluster
from engine_ops.devcluster.errors import BuildError, DevClusterError, MissingComponentError, StartError

__all__ = [
    "COMPONENTS",
    "ApiClient",
    "ApiError",
    "Binaries",
    "BuildError",
    "DevCluster",
    "DevClusterError",
    "KeyPair",
    "MissingComponentError",
    "StartError",
    "ensure_binaries",
    "find_binaries",
]
