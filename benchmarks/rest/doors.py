"""The REST API of a running operator: latency, throughput beside the bare workers, cache hits, what reconciling pays.

python benchmarks/rest/doors.py [--quick] [--only idle,saturation,sizes,cache,reconcile,start] [--rounds 3]
                                 [--json FILE]

One operator on one local control plane. The load comes from a process of its own (`lib.http_load`), with the token of a
ServiceAccount that may create requests. What the workers do when they are called directly is measured in this process,
with as many workers, in the same rounds; the operator rests meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import os
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import msgspec

from engine_ops.devcluster import DevCluster, DevClusterError
from engine_ops.workers.messages import SolveTask
from engine_ops.workers.pool import WorkerPool
from lib import http_load, load_phases
from lib.definitions import apply_definitions
from lib.http_load import HttpLoadError, Load
from lib.load_client import LoadClient, LoadError
from lib.load_phases import Figures
from lib.processes import RunningSystem, System, SystemUnderTestError
from lib.questions import mixed, small
from lib.summary import Target, median_of, percentile, ratio, target_table

ROOT = Path(__file__).resolve().parents[2]
PHASES = ("idle", "saturation", "sizes", "cache", "reconcile", "start")
NAMESPACE = "rest"
WORKERS = 2
IN_FLIGHT = 2 * WORKERS
NO_CACHE = {"Cache-Control": "no-cache"}
SMALL = json.loads(small("x"))["spec"]["data"]
SIZES = {count: json.loads(mixed("x", count))["spec"]["data"] for count in (50, 100, 200)}
RIGHTS = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: load, namespace: {NAMESPACE}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: load, namespace: {NAMESPACE}}}
rules:
  - {{apiGroups: [engineops.dev], resources: [optimizationrequests], verbs: [create]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: load, namespace: {NAMESPACE}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: load}}
subjects: [{{kind: ServiceAccount, name: load, namespace: {NAMESPACE}}}]
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Times:
    """How long each load lasts, in seconds, and how often the operator is started."""

    idle: float = 20.0
    saturation: float = 8.0
    cache: float = 6.0
    reconcile: int = 12
    starts: int = 5


QUICK = Times(2.0, 2.0, 2.0, 2, 1)


class Bench:
    """One run on one cluster.

    Parameters
    ----------
    cluster
        With the custom resource definitions in it.
    times
        How long.
    """

    def __init__(self, cluster: DevCluster, times: Times) -> None:
        self._cluster = cluster
        self._times = times
        self._numbers = itertools.count()
        cluster.kubectl("apply", "-f", "-", stdin=RIGHTS)
        self._token = cluster.kubectl("create", "token", "load", "-n", NAMESPACE).stdout.strip()
        self.api, self.probes = (f"http://127.0.0.1:{port}" for port in free_ports(2))

    def operator(self) -> RunningSystem:
        """Return an operator that is not started yet."""
        script = str(Path(sysconfig.get_path("scripts"), "engine-ops"))
        options = [f"--workers={WORKERS}", f"--lease-namespace={NAMESPACE}", f"--probes={self.probes}/healthz"]
        options += [f"--api={self.api}", "--api-requests-per-second=1000000"]
        # The operator reaches this cluster and is not taken for a Pod.
        outside = ("KUBERNETES_SERVICE_HOST", "POD_NAME", "POD_NAMESPACE")
        environment = {key: value for key, value in os.environ.items() if key not in outside}
        system = System("engine-ops", [script, "run", *options], "watching optimizationrequests")
        return RunningSystem(system, self._cluster.environment(environment))

    def start(self) -> Figures:
        """Measure the time from the start of the process to /readyz."""
        began = time.monotonic()
        with self.operator():
            self.wait_ready()
            return {"start_s": time.monotonic() - began}

    def wait_ready(self) -> None:
        """Wait until the operator says that it serves."""
        until(lambda: self._asks(f"{self.probes}/readyz"))

    async def round(self, phases: Sequence[str]) -> Figures:
        """Measure everything but the start once, with an operator that runs."""
        figures: Figures = {}
        await self._post(seconds=2.0)  # every code path is used once
        if "idle" in phases:
            seen = await self._post(seconds=self._times.idle, per_second=50.0, headers=NO_CACHE)
            figures |= {"idle_p50_ms": percentile(seen, 50), "idle_p99_ms": percentile(seen, 99)}
        if "saturation" in phases:
            figures |= await self._saturate(SMALL, "")
        if "sizes" in phases:
            for count, data in SIZES.items():
                figures |= await self._saturate(data, f"_{count}")
        if "cache" in phases:
            figures["cached_per_s"] = await self._rate(self._times.cache, connections=16)
        if "reconcile" in phases:
            figures |= await self._reconcile()
        return figures

    async def _saturate(self, data: dict[str, Any], suffix: str) -> Figures:
        """Measure how many questions are answered a second, by the workers alone and over HTTP."""
        direct = await self._direct(data)
        over_http = await self._rate(self._times.saturation, data=data, headers=NO_CACHE)
        return {f"direct{suffix}_per_s": direct, f"http{suffix}_per_s": over_http}

    async def _direct(self, data: dict[str, Any]) -> float:
        """Return how many questions the workers solve a second when nothing stands before them."""
        task = SolveTask(
            task_id="direct",
            type="resource",
            data=msgspec.json.encode(data),
            constraints=b"{}",
            search_seconds=0.0,
        )
        count, deadline = 0, 0.0

        async def keep_on(pool: WorkerPool) -> None:
            nonlocal count
            while time.monotonic() < deadline:
                await pool.run(task, timeout_seconds=30.0)
                count += 1

        async with WorkerPool(WORKERS, handler="engine_ops.plugins.judging:HANDLER") as pool:
            for _ in range(50):
                await pool.run(task, timeout_seconds=30.0)
            deadline = time.monotonic() + self._times.saturation
            await asyncio.gather(*(keep_on(pool) for _ in range(IN_FLIGHT)))
        return count / self._times.saturation

    async def _reconcile(self) -> Figures:
        """Measure create call to Ready at 20/s: alone, beside 50 HTTP requests a second, beside as many as can be."""
        beside: dict[str, Load | None] = {
            "alone": None,
            "beside_50": self._load(self._times.reconcile + 2, per_second=50.0, headers=NO_CACHE),
            "beside_all": self._load(self._times.reconcile + 2, headers=NO_CACHE),
        }
        figures: Figures = {}
        for name, load in beside.items():
            async with LoadClient.open(self._cluster, f"load-{next(self._numbers)}") as client:
                running = None if load is None else asyncio.create_task(http_load.run(load))
                if running is not None:
                    await asyncio.sleep(1.0)  # the load starts
                names = [f"paced-{number}" for number in range(self._times.reconcile * 20)]
                await client.create_at_rate(names, small, 20.0)
                await client.all_ready(deadline_seconds=load_phases.PATIENCE_SECONDS)
                delays_ms = [(client.ready[each] - client.created[each]) * 1000 for each in names]
                if running is not None:
                    await running
                await client.delete_all()
            figures[f"reconcile_{name}_p50_ms"] = percentile(delays_ms, 50)
            figures[f"reconcile_{name}_max_ms"] = max(delays_ms)
        return figures

    def _load(
        self,
        seconds: float,
        *,
        data: dict[str, Any] = SMALL,
        per_second: float = 0.0,
        connections: int = IN_FLIGHT,
        headers: dict[str, str] | None = None,
    ) -> Load:
        question = {"id": "load-{n}", "type": "resource", "searchSeconds": 0, "data": data}
        return Load(
            url=f"{self.api}/api/v1/optimize",
            bodies=[json.dumps(question)],
            token=self._token,
            headers=headers or {},
            connections=connections,
            seconds=seconds,
            per_second=per_second,
        )

    async def _post(
        self, *, seconds: float, per_second: float = 0.0, headers: dict[str, str] | None = None
    ) -> list[float]:
        seen = await http_load.run(self._load(seconds, per_second=per_second, headers=headers))
        answered(seen)
        return seen.delays_ms

    async def _rate(
        self,
        seconds: float,
        *,
        data: dict[str, Any] = SMALL,
        connections: int = IN_FLIGHT,
        headers: dict[str, str] | None = None,
    ) -> float:
        seen = await http_load.run(self._load(seconds, data=data, connections=connections, headers=headers))
        answered(seen)
        return seen.ok_per_second

    def _asks(self, url: str) -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own address
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def answered(seen: http_load.Seen) -> None:
    """Take nothing for a rate that was refused.

    Raises
    ------
    HttpLoadError
        If one answer in a hundred or more is no 200.
    """
    others = {status: count for status, count in seen.statuses.items() if status != "200"}
    if sum(others.values()) * 100 > sum(seen.statuses.values()):
        raise HttpLoadError(f"answers that are no 200: {seen.statuses}")


def until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Wait for something, looking every 10 ms."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemUnderTestError("the operator does not become ready")
        time.sleep(0.01)


def free_ports(count: int) -> list[int]:
    """Return ports that are free at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def targets(rounds: list[Figures]) -> list[Target]:
    """Return the figures that should be reached."""

    def of(key: str) -> float | None:
        return median_of(rounds, key)

    worst = max(
        (each["reconcile_beside_all_max_ms"] for each in rounds if "reconcile_beside_all_max_ms" in each), default=None
    )
    return [
        Target("POST /api/v1/optimize at 50/s, p50", of("idle_p50_ms"), 10, unit="ms"),
        Target("the same, p99", of("idle_p99_ms"), 40, unit="ms"),
        Target(
            "at saturation, against the workers alone", ratio(of("http_per_s"), of("direct_per_s")), 0.7, at_most=False
        ),
        *(
            Target(
                f"the same, packings of {count} items",
                ratio(of(f"http_{count}_per_s"), of(f"direct_{count}_per_s")),
                0.7,
                at_most=False,
            )
            for count in SIZES
        ),
        Target("cache hits", of("cached_per_s"), 1500, at_most=False, unit="1/s"),
        Target(
            "reconcile p50 beside 50 HTTP requests/s, against none",
            ratio(of("reconcile_beside_50_p50_ms"), of("reconcile_alone_p50_ms")),
            1.5,
        ),
        Target(
            "reconcile p50 beside saturation, against none",
            ratio(of("reconcile_beside_all_p50_ms"), of("reconcile_alone_p50_ms")),
            4.0,
        ),
        Target("the slowest of these", worst, 1000, unit="ms"),
        Target("start to ready", of("start_s"), 3.0, unit="s"),
    ]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PHASES), help=f"of {','.join(PHASES)}")
    parser.add_argument("--quick", action="store_true", help="shows that it works, measures nothing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="a file for everything that was measured")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    phases = [phase.strip() for phase in arguments.only.split(",")]
    if unknown := sorted(set(phases) - set(PHASES)):
        print(f"error: unknown: {', '.join(unknown)}; choose from {', '.join(PHASES)}", file=sys.stderr)
        return 2
    times = QUICK if arguments.quick else Times()
    rounds: list[Figures] = []
    try:
        # Without the controllers and kwok: nothing but the requests is to be served.
        with DevCluster.start(components=("etcd", "kube-apiserver"), report=print) as cluster:
            apply_definitions(cluster, ROOT / "crds")
            bench = Bench(cluster, times)
            if "start" in phases:
                rounds += [bench.start() for _ in range(times.starts)]
            if set(phases) - {"start"}:
                with bench.operator() as running:
                    bench.wait_ready()
                    for _ in range(1 if arguments.quick else arguments.rounds):
                        try:
                            rounds.append(asyncio.run(bench.round(phases)))
                        except (HttpLoadError, LoadError) as error:
                            raise SystemUnderTestError(f"{error}\n{running.said}") from error
                        print(", ".join(f"{key} {value:.3g}" for key, value in rounds[-1].items()), flush=True)
    except (DevClusterError, SystemUnderTestError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    reached = targets(rounds)
    print("\n" + target_table(reached))
    if arguments.json:
        document = {"rounds": rounds, "targets": [target.as_json() for target in reached]}
        Path(arguments.json).write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
