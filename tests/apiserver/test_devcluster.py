"""The local control plane does what a real one does."""

from __future__ import annotations

from engine_ops.devcluster import DevCluster


def test_a_job_completes(cluster: DevCluster, namespace: str) -> None:
    cluster.add_nodes(1, prefix=namespace)
    cluster.kubectl("-n", namespace, "create", "job", "answer", "--image=any")
    cluster.kubectl("-n", namespace, "wait", "job/answer", "--for=condition=Complete", "--timeout=30s")
