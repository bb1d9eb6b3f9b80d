"""The cache of the live cluster: memory, CPU and time, with nodes and pods on a real API server.

    python benchmarks/cluster_cache.py [--nodes 1000] [--pods 10000] [--changes 100] [--seconds 30]

The cache runs in a process of its own, which does nothing else. Its memory for pods is what it occupies with them
beyond what such a process occupies with the same nodes and no pods. CPU is the process's own time; what a snapshot
takes depends on the machine and on what else runs there.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Self

import aiohttp

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.nodes import node_object
from lib.processes import cpu_seconds, memory
from lib.summary import Target, target_table

CONNECTIONS = 16
MERGE_PATCH = "application/merge-patch+json"


class CachedProcess:
    """The process with the cache. A context manager that ends it."""

    def __init__(self, cluster: DevCluster) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lib.cached_process", "uvloop"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=cluster.environment(),
            cwd=Path(__file__).parent,
        )
        self.pid = self._process.pid
        self.first = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate(timeout=30)

    def look(self, count: int) -> dict[str, Any]:
        """Have it take snapshots."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"look {count}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def node(number: int) -> dict[str, Any]:
    labels = {
        "topology.kubernetes.io/zone": f"zone-{number % 10}",
        "node.kubernetes.io/instance-type": f"m{number % 5}.4xlarge",
    }
    return node_object(f"node-{number:04}", cpu="32", memory="128Gi", pods=110, labels=labels, resources={})


def pod(number: int, nodes: int) -> dict[str, Any]:
    app = f"app-{number % 200:03}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{app}-7d4b9c6f58-{number:05}",
            "labels": {
                "app.kubernetes.io/name": app,
                "app.kubernetes.io/instance": f"{app}-production",
                "app.kubernetes.io/version": "1.27.3",
                "pod-template-hash": "7d4b9c6f58",
            },
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": f"{app}-7d4b9c6f58",
                    "uid": f"00000000-0000-0000-0000-{number % 200:012}",
                    "controller": True,
                }
            ],
        },
        "spec": {
            "nodeName": f"node-{number % nodes:04}",
            "tolerations": [{"key": "dedicated", "operator": "Equal", "value": app, "effect": "NoSchedule"}],
            "containers": [
                {
                    "name": "main",
                    "image": f"registry.example.org/team/{app}:1.27.3",
                    "args": ["--port=8080", "--log-format=json"],
                    "ports": [{"containerPort": 8080, "name": "http"}, {"containerPort": 9090, "name": "metrics"}],
                    "env": [{"name": f"SETTING_{index}", "value": f"value-{index}"} for index in range(6)],
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
                    "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
                }
            ],
        },
    }


def running(number: int) -> dict[str, Any]:
    moment = "2026-01-01T00:00:00Z"
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    address = f"10.{number // 65536 % 256}.{number // 256 % 256}.{number % 256}"
    return {
        "phase": "Running",
        "podIP": address,
        "startTime": moment,
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": moment} for kind in kinds],
        "containerStatuses": [
            {
                "name": "main",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "image": "registry.example.org/team/app:1.27.3",
                "imageID": "registry.example.org/team/app@sha256:" + "ab" * 32,
                "containerID": "containerd://" + "cd" * 32,
                "state": {"running": {"startedAt": moment}},
            }
        ],
    }


class Load:
    """Writes to the API server, up to 16 requests at once."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server

    async def send(self, method: str, path: str, body: Any, content_type: str = "application/json") -> bytes:
        """Send one request; raise if it is refused."""
        headers = {"Content-Type": content_type, "User-Agent": "kubelet"}
        async with self._session.request(
            method, self._server + path, data=json.dumps(body), headers=headers
        ) as response:
            answer = await response.read()
            if response.status >= 400:
                raise RuntimeError(f"{method} {path}: {response.status} {answer[:300]!r}")
            return answer

    async def all(self, work: Callable[[int], Awaitable[None]], numbers: Iterable[int]) -> None:
        """Do the work for each number, as fast as 16 connections can."""
        waiting = iter(numbers)

        async def some() -> None:
            for number in waiting:
                await work(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(some())

    async def make_node(self, number: int) -> None:
        """Create a node."""
        await self.send("POST", "/api/v1/nodes", node(number))

    async def change(self, name: str, status: dict[str, Any]) -> bytes:
        """Change a pod's status, and return the pod."""
        return await self.send("PATCH", f"/api/v1/namespaces/load/pods/{name}/status", {"status": status}, MERGE_PATCH)

    async def renew_leases(self) -> None:
        """Write what is not watched, for ever: the resourceVersion goes on, as it does in every real cluster."""
        path = "/apis/coordination.k8s.io/v1/namespaces/load/leases"
        await self.send("POST", path, {"metadata": {"name": "lease"}, "spec": {"leaseTransitions": 0}})
        for number in itertools.count():
            await self.send("PATCH", f"{path}/lease", {"spec": {"leaseTransitions": number}}, MERGE_PATCH)
            await asyncio.sleep(0.02)

    async def change_at_rate(self, names: list[str], per_second: float, seconds: float) -> int:
        """Change pods at fixed moments, as kubelets do. Return how many changes were made."""
        loop = asyncio.get_running_loop()
        began, count = loop.time(), int(per_second * seconds)
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                await asyncio.sleep(began + number / per_second - loop.time())
                status = {"podIP": f"10.9.{random.randrange(256)}.{random.randrange(256)}", "message": str(number)}
                group.create_task(self.change(random.choice(names), status))
        return count


async def measure(cluster: DevCluster, options: argparse.Namespace) -> list[Target]:
    context = ssl.create_default_context(cafile=str(cluster.ca_file))
    context.load_cert_chain(cluster.admin.certificate, cluster.admin.key)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=context)) as session:
        load = Load(session, cluster.server)
        await load.send("POST", "/api/v1/namespaces", {"metadata": {"name": "load"}})
        await load.all(load.make_node, range(options.nodes))
        with CachedProcess(cluster) as empty:
            without = empty.first["resident_bytes"]
            print(f"without pods: {json.dumps(empty.first)}")

        sizes: list[int] = []

        async def make_pod(number: int) -> None:
            body = pod(number, options.nodes)
            await load.send("POST", "/api/v1/namespaces/load/pods", body)
            sizes.append(len(await load.change(body["metadata"]["name"], running(number))))

        began = time.perf_counter()
        await load.all(make_pod, range(options.pods))
        print(f"{options.pods} pods of {sum(sizes) / len(sizes):.0f} bytes in {time.perf_counter() - began:.0f} s")
        names = [pod(number, options.nodes)["metadata"]["name"] for number in range(options.pods)]

        with await asyncio.to_thread(CachedProcess, cluster) as cached:
            print(f"first: {json.dumps(cached.first)}")
            renewing = asyncio.create_task(load.renew_leases())
            quiet = await asyncio.to_thread(cached.look, 30)
            renewing.cancel()
            print(f"quiet: {json.dumps(quiet)}")
            cpu, wall = cpu_seconds(cached.pid), time.perf_counter()
            changes = await load.change_at_rate(names, options.changes, options.seconds)
            wall = time.perf_counter() - wall
            share = 100 * (cpu_seconds(cached.pid) - cpu) / wall
            print(f"{changes} changes in {wall:.1f} s ({changes / wall:.0f} a second)")
            changing = asyncio.create_task(load.change_at_rate(names, options.changes, 10))
            busy = await asyncio.to_thread(cached.look, 30)
            await changing
            print(f"busy: {json.dumps(busy)}")
            after = memory(cached.pid)
    return [
        Target("memory of the pods, after the list", (cached.first["resident_bytes"] - without) / 1e6, 40, unit="MB"),
        Target("the same, after changes and snapshots", (after.resident_bytes - without) / 1e6, 40, unit="MB"),
        Target("the same, the highest", (after.peak_bytes - without) / 1e6, 40, unit="MB"),
        Target(f"CPU at {options.changes:g} changes a second", share, 5, unit="% of a core"),
        Target("first snapshot", cached.first["first_s"], 5, unit="s"),
        Target("snapshot, only leases change, p50", quiet["p50_ms"], 200, unit="ms"),
        Target("snapshot, pods change, p50", busy["p50_ms"], 200, unit="ms"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--changes", type=float, default=100.0, help="a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long CPU is measured")
    options = parser.parse_args()
    with DevCluster.start(components=("etcd", "kube-apiserver")) as cluster:
        targets = asyncio.run(measure(cluster, options))
    print(target_table(targets))
    return 0 if all(target.verdict == "ok" for target in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
