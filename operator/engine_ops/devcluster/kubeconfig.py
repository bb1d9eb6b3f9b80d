"""Kubeconfig files, written whole and for their owner only. The user's own files are never touched."""

from __future__ import annotations

import base64
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from engine_ops.devcluster.certificates import KeyPair


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")


def _write(path: Path, *, server: str, ca_file: Path, name: str, user: dict[str, str], namespace: str | None) -> Path:
    context: dict[str, str] = {"cluster": "devcluster", "user": name}
    if namespace is not None:
        context["namespace"] = namespace
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "devcluster", "cluster": {"server": server, "certificate-authority-data": _encoded(ca_file)}}
        ],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "devcluster", "context": context}],
        "current-context": "devcluster",
    }
    # Written aside and renamed: a client that starts now must never read half a file. mkstemp gives mode 0600.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yaml.safe_dump(document, file, sort_keys=False)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def write_for_certificate(path: Path, *, server: str, ca_file: Path, name: str, key_pair: KeyPair) -> Path:
    """Write a kubeconfig that authenticates with a client certificate.

    Certificates are embedded, so that the file works from any directory and may be copied.

    Parameters
    ----------
    path : Path
        The file to write.
    server : str
        The API server's address, such as ``https://127.0.0.1:34567``.
    ca_file : Path
        The authority that the server's certificate is checked against.
    name : str
        The user entry's name.
    key_pair : KeyPair
        The client certificate.

    Returns
    -------
    Path
        `path`.
    """
    user = {"client-certificate-data": _encoded(key_pair.certificate), "client-key-data": _encoded(key_pair.key)}
    return _write(path, server=server, ca_file=ca_file, name=name, user=user, namespace=None)


def write_for_token(
    path: Path, *, server: str, ca_file: Path, name: str, token: str, namespace: str | None = None
) -> Path:
    """Write a kubeconfig that authenticates with a bearer token.

    Parameters
    ----------
    path : Path
        The file to write.
    server : str
        The API server's address, such as ``https://127.0.0.1:34567``.
    ca_file : Path
        The authority that the server's certificate is checked against.
    name : str
        The user entry's name.
    token : str
        The bearer token.
    namespace : str, optional
        The context's default namespace.

    Returns
    -------
    Path
        `path`.
    """
    return _write(path, server=server, ca_file=ca_file, name=name, user={"token": token}, namespace=namespace)
