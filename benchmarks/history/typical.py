"""Points as the operator records them, with identity, request, outcome and usage."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

from engine_ops.ml.data_point import WorkloadDataPoint

START_MS = 1_750_000_000_000
MEBIBYTE = 2**20
# Usage percentiles come from a histogram of logarithmic buckets (2 % relative error): they take its middles only.
GROWTH = 1.04


def typical_points(count: int, seed: int = 5) -> Iterator[WorkloadDataPoint]:
    """Yield points in the order in which they were closed.

    20 namespaces, 500 workloads; every request has its own uid and asks for a Job of its own uid, as CI and batch
    systems do; times of Jobs are whole seconds, cpu is in nanocores, memory in KiB, as the API server has them.
    """
    rng = random.Random(seed)
    moment = START_MS
    sizes = [(rng.choice((0.1, 0.25, 0.5, 1.0, 2.0)), rng.choice((128, 256, 512, 1024, 4096))) for _ in range(500)]
    for _ in range(count):
        moment += int(rng.expovariate(1 / 100.0)) + 1
        number = min(499, int(rng.paretovariate(0.8)) - 1)
        yield _point(rng, moment, number, *sizes[number])


def _point(rng: random.Random, moment: int, number: int, cpu: float, memory_mib: int) -> WorkloadDataPoint:
    namespace, name = f"team-{number % 20:02d}", f"batch-report-{number:03d}"
    succeeded = rng.random() < 0.93
    duration_s = max(1, int(rng.lognormvariate(5, 1.2)))
    cpu_peak = round(min(cpu, cpu * rng.betavariate(3, 2)), 9)
    memory_peak = float(int(memory_mib * 1024 * rng.betavariate(5, 2)) * 1024)
    return WorkloadDataPoint(
        timestamp=moment,
        request_type="resource" if number % 5 else "ml-driven",
        resource_usage={"cpu": cpu_peak, "memory": memory_peak},
        duration=duration_s * 1000.0,
        success=succeeded,
        metadata={
            "uid": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "generation": 1,
            "run": 1,
            "namespace": namespace,
            "name": name,
            "workload": {
                "kind": "Job",
                "namespace": namespace,
                "name": f"{name}-{rng.randrange(10**5):05d}",
                "uid": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            },
            "request": {
                "items.count": float(rng.randint(1, 40)),
                "items.cpu": cpu,
                "items.memory": float(memory_mib * MEBIBYTE),
                "queue": rng.choice(("night", "day", "urgent")),
            },
            "requested": {"cpu": cpu, "memory": float(memory_mib * MEBIBYTE)},
            "solve": {
                "durationMs": round(rng.lognormvariate(1, 0.7), 3),
                "score": round(rng.uniform(0.6, 1.0), 4),
                "algorithm": "first-fit-decreasing",
                "reason": "Solved",
            },
            "outcome": {
                "of": "workload",
                "state": "succeeded" if succeeded else "failed",
                "reason": "" if succeeded else "BackoffLimitExceeded",
                "closedAt": moment + duration_s * 1000 + rng.randint(200, 30_000),
                "exitCode": 0 if succeeded else rng.choice((1, 137)),
                "restarts": 0 if succeeded else rng.randint(1, 6),
                "oomKills": int(not succeeded and rng.random() < 0.3),
                "pods": 1,
                "samples": max(1, duration_s // 60),
            },
            "containers": {
                "main": {
                    "cpu": {"p50": _bucket(cpu_peak * 0.5), "p95": _bucket(cpu_peak * 0.9), "peak": cpu_peak},
                    "memory": {
                        "p50": _bucket(memory_peak * 0.6),
                        "p95": _bucket(memory_peak * 0.95),
                        "peak": memory_peak,
                    },
                    "restarts": 0,
                    "oomKills": 0,
                    "requests": {"cpu": cpu, "memory": float(memory_mib * MEBIBYTE)},
                }
            },
        },
    )


def _bucket(amount: float) -> float:
    power = 1.0
    while power < amount:
        power *= GROWTH
    while power > amount:
        power /= GROWTH
    return power
