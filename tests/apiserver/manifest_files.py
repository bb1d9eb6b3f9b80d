"""manifests/, as kustomize renders them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from engine_ops.devcluster.pytest_plugin import Kubectl

MANIFESTS = Path(__file__).parents[2] / "manifests"


def rendered(kubectl: Kubectl, directory: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(kubectl("kustomize", str(directory)).stdout) if document]


def users_overlay(directory: Path, whole: str, *components: str, **more: Any) -> Path:
    """Write the kustomization that a user writes, of ``base`` or another directory of manifests/, with components."""

    def relative(path: Path) -> str:  # as kustomize wants it
        return os.path.relpath(path.resolve(), directory.resolve())

    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [relative(MANIFESTS / whole)],
        "components": [relative(MANIFESTS / "components" / name) for name in components],
        **more,
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return directory


def namespaced_overlay(directory: Path, namespace: str, *components: str) -> Path:
    """Write the overlay that a user writes to install into one of several namespaces; see docs/install.md."""
    kinds = ("ClusterRole", "ClusterRoleBinding")
    suffixes = {
        "apiVersion": "builtin",
        "kind": "SuffixTransformer",
        "metadata": {"name": "one-of-several"},
        "suffix": f"-{namespace}",
        "fieldSpecs": [{"kind": kind, "path": "metadata/name"} for kind in kinds],
    }
    more = {"namespace": namespace, "transformers": [yaml.safe_dump(suffixes)]}
    return users_overlay(directory, "overlays/namespaced", *components, **more)
