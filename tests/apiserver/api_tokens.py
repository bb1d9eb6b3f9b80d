"""Tokens made by hand with the cluster's own key, and users that are no ServiceAccounts."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import time
from collections.abc import Iterator

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from waiting import wait_until

from engine_ops.devcluster import DevCluster


def expired(cluster: DevCluster, token: str) -> str:
    """Return the same token as it was two hours before: an hour too old."""
    return signed(cluster, token, iat=-7200, nbf=-7200, exp=-3600)


def signed(cluster: DevCluster, token: str, **seconds_from_now: int) -> str:
    """Return a token with other times, signed by the cluster's own key."""
    header, payload, _ = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    claims |= {claim: int(time.time()) + seconds for claim, seconds in seconds_from_now.items()}
    body = f"{header}.{encoded(json.dumps(claims).encode())}"
    [path] = cluster.directory.rglob("service-account.key")
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    r, s = utils.decode_dss_signature(key.sign(body.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{body}.{encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def forged(token: str) -> str:
    """Return a token whose signature is another's."""
    header, payload, signature = token.split(".")
    flipped = "A" if signature[10] != "A" else "B"
    return f"{header}.{payload}.{signature[:10]}{flipped}{signature[11:]}"


def encoded(raw: bytes) -> str:
    """Return bytes as a JSON Web Token has them."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@contextlib.contextmanager
def bootstrap_user(cluster: DevCluster) -> Iterator[tuple[str, str]]:
    """Make a user that is no ServiceAccount, for the block; gives its name and its token.

    What machines join a cluster with is the one kind of token for such a user that an API server needs nobody else for.
    """
    token_id, secret = secrets.token_hex(3), secrets.token_hex(8)
    values = {"token-id": token_id, "token-secret": secret, "usage-bootstrap-authentication": "true"}
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"bootstrap-token-{token_id}", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": values,
    }
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    try:
        _wait_until_known(cluster, f"{token_id}.{secret}")
        yield f"system:bootstrap:{token_id}", f"{token_id}.{secret}"
    finally:
        cluster.kubectl("-n", "kube-system", "delete", "secret", f"bootstrap-token-{token_id}", "--ignore-not-found")


def _wait_until_known(cluster: DevCluster, token: str) -> None:
    """Wait until a token is good: the API server sees the Secret a moment later, and ours remembers a refusal."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    with cluster.client() as client:
        wait_until(
            lambda: client.request("POST", path, body)["status"],
            lambda status: status.get("authenticated"),
            "the API server knows the token",
        )
