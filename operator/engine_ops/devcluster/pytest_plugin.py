"""pytest fixtures: a real control plane for a test session. Load with ``pytest_plugins = [...]`` in a conftest.py.

`cluster` starts once a session and ends with it; `namespace` is new for each test; `kubectl` runs against the cluster.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Protocol

import pytest

from engine_ops.devcluster.binaries import COMPONENTS, Binaries, ensure_binaries
from engine_ops.devcluster.client import ApiClient, ApiError
from engine_ops.devcluster.cluster import DevCluster

SERVICE_ACCOUNT_SECONDS = 30.0


class Kubectl(Protocol):
    """What the `kubectl` fixture gives: see `DevCluster.kubectl`."""

    def __call__(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl."""


@pytest.fixture(scope="session")
def devcluster_binaries(pytestconfig: pytest.Config) -> Binaries:
    """Find the control plane's binaries, or build them, with progress on the terminal."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def report(line: str) -> None:
        # Past pytest's capturing: a build of nine minutes must not look like a hang.
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            print(line, file=sys.stderr, flush=True)  # noqa: T201

    return ensure_binaries(report)


@pytest.fixture(scope="session")
def cluster(devcluster_binaries: Binaries) -> Iterator[DevCluster]:
    """Start a cluster with every component for the whole session. Tests keep to their own namespace."""
    with DevCluster.start(components=COMPONENTS, binaries=devcluster_binaries) as started:
        yield started


@pytest.fixture
def namespace(cluster: DevCluster) -> Iterator[str]:
    """Make a fresh namespace; its deletion is begun after the test and not waited for."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    with cluster.client() as client:
        client.request(
            "POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        )
        _wait_for_service_account(client, name)
    yield name
    with cluster.client() as client:
        client.request("DELETE", f"/api/v1/namespaces/{name}")


def _wait_for_service_account(client: ApiClient, namespace: str) -> None:
    """Wait until the controller manager has made the ServiceAccount without which no pod can be created."""
    deadline = time.monotonic() + SERVICE_ACCOUNT_SECONDS
    while True:
        try:
            client.request("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
        except ApiError as error:
            if error.status != 404 or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


@pytest.fixture(scope="session")
def kubectl(cluster: DevCluster) -> Kubectl:
    """Run the cluster's kubectl as administrator; pass ``-n`` yourself."""
    return cluster.kubectl
