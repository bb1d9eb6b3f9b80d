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


def namespaced_overlay(directory: Path, namespace: str, *components: str) -> Path:
    """Write the overlay that a user writes to install the operator into a namespace of theirs."""

    def relative(path: Path) -> str:  # as kustomize wants it
        return os.path.relpath(path.resolve(), directory.resolve())

    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [relative(MANIFESTS / "overlays" / "namespaced")],
        "components": [relative(MANIFESTS / "components" / name) for name in components],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return directory
