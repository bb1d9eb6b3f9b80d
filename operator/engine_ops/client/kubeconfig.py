"""The token and the CA of the current context of a kubeconfig, read without a Kubernetes client.

Only what stands in the file, or in files that it names, is used. Programs that a kubeconfig names (``exec``) are not
run, and client certificates are for the API server alone.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml


@dataclasses.dataclass(frozen=True, slots=True)
class ContextCredentials:
    """What the current context has.

    Parameters
    ----------
    token
        None where there is none.
    token_file
        Where a token stands that turns; goes before ``token``.
    ca_pem
        The cluster's CA; None for the system's.
    """

    token: str | None = dataclasses.field(default=None, repr=False)
    token_file: pathlib.Path | None = None
    ca_pem: str | None = None


def current_context(environ: Mapping[str, str] = os.environ) -> ContextCredentials:
    """Return the credentials of the current context; empty ones where there is none, or the files cannot be read.

    Parameters
    ----------
    environ
        ``KUBECONFIG`` may name several files; as with kubectl, the first that has something wins.
    """
    given = environ.get("KUBECONFIG")
    paths = given.split(os.pathsep) if given else ["~/.kube/config"]
    current: str | None = None
    found: dict[str, dict[str, tuple[Mapping[str, Any], pathlib.Path]]] = {"contexts": {}, "users": {}, "clusters": {}}
    for path in [pathlib.Path(each).expanduser() for each in paths if each]:
        content = _read(path)
        current = current or content.get("current-context")
        for part, named in found.items():
            entries = content.get(part)
            for entry in entries if isinstance(entries, list) else []:
                if isinstance(entry, dict) and isinstance(entry.get(part[:-1]), dict):
                    named.setdefault(str(entry.get("name")), (entry[part[:-1]], path.parent))
    context, _ = found["contexts"].get(str(current), ({}, None))
    user, user_at = found["users"].get(str(context.get("user")), ({}, pathlib.Path()))
    cluster, cluster_at = found["clusters"].get(str(context.get("cluster")), ({}, pathlib.Path()))
    token_file = user.get("tokenFile")
    return ContextCredentials(
        token=str(user["token"]) if user.get("token") else None,
        token_file=user_at / str(token_file) if token_file else None,
        ca_pem=_ca(cluster, cluster_at),
    )


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _ca(cluster: Mapping[str, Any], beside: pathlib.Path) -> str | None:
    try:
        if cluster.get("certificate-authority-data"):
            return base64.b64decode(str(cluster["certificate-authority-data"]), validate=True).decode("ascii")
        if cluster.get("certificate-authority"):
            return (beside / str(cluster["certificate-authority"])).read_text("ascii")
    except (OSError, UnicodeDecodeError, binascii.Error):
        return None
    return None
