"""Tokens of ServiceAccounts, from the TokenRequest API."""

from __future__ import annotations

from engine_ops.devcluster.client import ApiClient


def service_account_token(client: ApiClient, namespace: str, name: str, *, duration_seconds: int) -> str:
    """Ask for a fresh token of a ServiceAccount.

    Parameters
    ----------
    client : ApiClient
        Of somebody who may create tokens.
    namespace, name : str
        The ServiceAccount, which must exist.
    duration_seconds : int
        How long the token is valid; the API server takes 600 and more.

    Returns
    -------
    str
        The bearer token.

    Raises
    ------
    DevClusterError
        If the API server refuses.
    """
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": duration_seconds},
    }
    answer = client.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", body)
    token: str = answer["status"]["token"]
    return token
