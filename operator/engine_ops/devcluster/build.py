"""Placeholder until the next commit: finds the cache."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import platformdirs

from engine_ops.devcluster.errors import BuildError

KUBERNETES_VERSION = "v1.36.3"
_MAJOR, _MINOR = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
LDFLAGS = (
    "-s -w"
    f" -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"
    f" -X k8s.io/component-base/version.gitMajor={_MAJOR}"
    f" -X k8s.io/component-base/version.gitMinor={_MINOR}"
)


def cache_key() -> str:
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((resources.files("engine_ops.devcluster") / "gomod" / name).read_bytes())
    digest.update(LDFLAGS.encode())
    digest.update(f"{platform.system()}/{platform.machine()}".encode())
    return digest.hexdigest()[:16]


def cached_binaries() -> Path | None:
    directory = platformdirs.user_cache_path("engine-ops") / "devcluster" / cache_key()
    return directory if directory.is_dir() else None


def build_binaries(report: Callable[[str], None]) -> Path:
    raise BuildError("set KUBEBUILDER_ASSETS")
