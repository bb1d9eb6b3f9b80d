"""A real control plane for these tests. Everything below this directory is marked `apiserver`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from operator_process import OperatorProcess, StartOperator
from rights_in_effect import wait_until_installed

from engine_ops.devcluster import DevCluster

_HERE = Path(__file__).parent
_ROOT = Path(__file__).parents[2]
_CRDS = _ROOT / "crds"


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


@pytest.fixture(scope="session")
def installed(cluster: DevCluster) -> DevCluster:
    """The session's cluster with manifests/base in it, and in effect."""
    cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", str(_ROOT / "manifests/base")
    )
    wait_until_installed(cluster, "engine-ops-system")
    return cluster


@pytest.fixture(scope="session")
def operator_kubeconfig(installed: DevCluster) -> Path:
    """The rights of the ServiceAccount of manifests/base."""
    return installed.service_account_kubeconfig("engine-ops-system", "engine-ops")


@pytest.fixture
def start_operator(operator_kubeconfig: Path, namespace: str) -> Iterator[StartOperator]:
    """Start operators that end with the test; see `StartOperator`."""
    started: list[OperatorProcess] = []

    def start(
        *arguments: str,
        kubeconfig: Path | None = None,
        namespaces: tuple[str, ...] | None = None,
        environment: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> OperatorProcess:
        watched = (namespace,) if namespaces is None else namespaces
        chosen = [f"--namespace={name}" for name in watched]
        # click takes the last of an option that is given twice, so that a test may say otherwise.
        process = OperatorProcess(
            kubeconfig or operator_kubeconfig,
            *chosen,
            "--workers=1",
            "--probes=none",
            *arguments,
            environment=environment,
        )
        started.append(process)
        return process.start(wait=wait)

    yield start
    for process in reversed(started):
        process.stop()
        sys.stderr.write(process.stderr)  # pytest shows it with a test that failed


@pytest.fixture
def node(cluster: DevCluster, namespace: str) -> Iterator[str]:
    """A simulated node that goes with the test, for pods that are to run."""
    (name,) = cluster.add_nodes(1, cpu="32", memory="64Gi", prefix=namespace)
    yield name
    cluster.kubectl("delete", "node", name, "--wait=false")


@pytest.fixture
def operator(start_operator: StartOperator) -> OperatorProcess:
    """An operator with the ServiceAccount's rights that watches the test's namespace and serves already."""
    return start_operator()
