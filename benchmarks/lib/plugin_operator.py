"""A local control plane, and the operator on it with the plugins of ``benchmarks/plugins/load_plugins.py``."""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine_ops.devcluster import DevCluster
from lib.definitions import apply_definitions
from lib.plugin_resources import PATH
from lib.processes import RunningSystem, System

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "benchmarks" / "plugins"
OWN_NAMESPACE = "own"


@contextlib.contextmanager
def control_plane(plugins: Sequence[Mapping[str, Any]]) -> Iterator[DevCluster]:
    """Start etcd and kube-apiserver, and apply the definitions and plugins."""
    # Without the controllers and kwok: nothing but the requests is to be served.
    with DevCluster.start(components=("etcd", "kube-apiserver"), report=print) as cluster:
        apply_definitions(cluster, ROOT / "crds")
        cluster.kubectl("create", "namespace", OWN_NAMESPACE)
        with cluster.client() as client:
            for one in plugins:
                client.request("POST", PATH, dict(one))
        yield cluster


@contextlib.contextmanager
def operator(cluster: DevCluster, workers: int, profile: str | None = None) -> Iterator[RunningSystem]:
    """Run the operator.

    Parameters
    ----------
    cluster
        From `control_plane`.
    workers
        Solvers.
    profile
        A file for cProfile's figures of the main process, written when it ends.
    """
    script = str(Path(sysconfig.get_path("scripts"), "engine-ops"))
    command = [script] if profile is None else [sys.executable, "-m", "cProfile", "-o", profile, script]
    options = ["run", f"--workers={workers}", "--probes=none", f"--lease-namespace={OWN_NAMESPACE}"]
    # The operator reaches this cluster and is not taken for a Pod.
    outside = ("KUBERNETES_SERVICE_HOST", "POD_NAME", "POD_NAMESPACE")
    environment = {key: value for key, value in os.environ.items() if key not in outside}
    environment["PYTHONPATH"] = os.pathsep.join([str(MODULES), environment.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    system = System("engine-ops", [*command, *options], "watching optimizationrequests")
    with RunningSystem(system, cluster.environment(environment)) as running:
        yield running
