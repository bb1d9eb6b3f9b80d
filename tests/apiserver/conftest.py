"""A real control plane for these tests. Everything below this directory is marked `apiserver`."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine_ops.devcluster import DevCluster

_HERE = Path(__file__).parent
_CRDS = Path(__file__).parents[2] / "crds"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.apiserver)


@pytest.fixture(scope="session")
def cluster(cluster: DevCluster) -> DevCluster:
    """The session's cluster with this project's CRDs, where they are generated already."""
    if any(_CRDS.glob("*.yaml")):
        cluster.kubectl("apply", "--server-side", "-f", str(_CRDS))
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(_CRDS))
    return cluster
