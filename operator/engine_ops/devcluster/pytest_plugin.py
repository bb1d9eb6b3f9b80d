"""pytest fixtures: a real control plane for a test session. Load with ``pytest_plugins = [...]`` in a conftest.py.

`cluster` starts once a session and ends with it; `namespace` is new for each test; `kubectl` runs against the cluster.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Protocol

import pytest

from engine_ops.devcluster.binaries import COMPONENTS, ensure_binaries
from engine_ops.devcluster.cluster import DevCluster


class Kubectl(Protocol):
    """What the `kubectl` fixture gives: see `DevCluster.kubectl`."""

    def __call__(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl."""


def _report(line: str) -> None:
    # Past pytest's capturing: a build of nine minutes must not look like a hang.
    print(line, file=sys.__stderr__, flush=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[DevCluster]:
    """Start a cluster with every component for the whole session. Tests keep to their own namespace."""
    binaries = ensure_binaries(_report)
    with DevCluster.start(components=COMPONENTS, binaries=binaries) as started:
        yield started


@pytest.fixture
def namespace(cluster: DevCluster) -> Iterator[str]:
    """Make a fresh namespace; its deletion is begun after the test and not waited for."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    with cluster.client() as client:
        client.request(
            "POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        )
    yield name
    with cluster.client() as client:
        client.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def kubectl(cluster: DevCluster) -> Kubectl:
    """Run the cluster's kubectl as administrator; pass ``-n`` yourself."""
    return cluster.kubectl
