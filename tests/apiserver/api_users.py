"""An admin, an editor, a viewer and a stranger, as ServiceAccounts of one namespace with tokens."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.client import ApiClient, ApiError

RBAC = "/apis/rbac.authorization.k8s.io/v1"
NAMES = ("admin", "editor", "viewer", "stranger")
IN_THE_NAMESPACE = {"admin": "admin", "editor": "edit", "viewer": "view"}
"""Kubernetes' own ClusterRoles, by RoleBinding."""
IN_THE_CLUSTER = {
    "admin": ("engine-ops-plugin-editor", "engine-ops-edit", "engine-ops-api-metrics"),
    "editor": ("engine-ops-view",),
    "viewer": ("engine-ops-view",),
}
"""What an administrator binds besides: plugins are cluster-scoped."""


@dataclasses.dataclass
class ApiUsers:
    """The four.

    Parameters
    ----------
    cluster, namespace, client
        Where.
    """

    cluster: DevCluster
    namespace: str
    client: ApiClient

    def username(self, name: str) -> str:
        """Return a user's name as the API server has it."""
        return f"system:serviceaccount:{self.namespace}:{name}"

    def token(self, name: str, audiences: Sequence[str] = ()) -> str:
        """Return a new token, by default for the API server itself."""
        spec = {"expirationSeconds": 3600} | ({"audiences": list(audiences)} if audiences else {})
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{name}/token"
        with self.cluster.client() as client:  # a kept connection is closed after minutes in which nothing was asked
            token: str = client.request("POST", path, body)["status"]["token"]
        return token

    def delete(self, name: str) -> None:
        """Delete a ServiceAccount."""
        with self.cluster.client() as client:
            client.request("DELETE", f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{name}")


@contextlib.contextmanager
def api_users(cluster: DevCluster, namespace: str) -> Iterator[ApiUsers]:
    """Make them in a namespace, with rights in the cluster that go with the block."""
    bindings: list[str] = []
    with cluster.client() as client:
        try:
            for name in NAMES:
                path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
                body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
                client.request("POST", path, body)
                roles = [IN_THE_NAMESPACE[name]] if name in IN_THE_NAMESPACE else []
                for role in roles:
                    _bind(client, f"{RBAC}/namespaces/{namespace}/rolebindings", "RoleBinding", namespace, name, role)
                for role in IN_THE_CLUSTER.get(name, ()):
                    path = f"{RBAC}/clusterrolebindings"
                    bindings.append(f"{path}/{_bind(client, path, 'ClusterRoleBinding', namespace, name, role)}")
            yield ApiUsers(cluster, namespace, client)
        finally:
            with cluster.client() as cleaner:
                for path in bindings:
                    with contextlib.suppress(ApiError):
                        cleaner.request("DELETE", path)


def _bind(client: ApiClient, path: str, kind: str, namespace: str, user: str, role: str) -> str:
    name = f"{namespace}-{user}-{role}"
    body = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": user, "namespace": namespace}],
    }
    client.request("POST", path, body)
    return name
