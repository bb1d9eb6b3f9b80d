"""The constant answer that the peers give: the size and shape of a small real one."""

from __future__ import annotations

import datetime
from typing import Any

RESULT: dict[str, Any] = {
    "nodes": [
        {
            "id": f"node-{number}",
            "cpuAvailable": 1.5,
            "memoryAvailable": 4294967296,
            "items": [{"id": "web", "count": 4}, {"id": "cache", "count": 2}],
        }
        for number in range(2)
    ],
    "unplacedItems": [],
    "nodeCount": 2,
    "lowerBound": 2,
    "gap": 0.0,
    "algorithm": "constant",
}


def status(generation: int) -> dict[str, Any]:
    """Return the whole status of an answered request of this generation."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "observedGeneration": generation,
        "run": 1,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Solved",
                "message": "10 items on 2 nodes, proven optimal",
                "observedGeneration": generation,
                "lastTransitionTime": now,
            }
        ],
        "startTime": now,
        "completionTime": now,
        "result": RESULT,
        "metrics": {"durationMs": 1, "score": 1.0},
        "solvedBy": {"name": "constant", "algorithm": "constant", "version": "0"},
    }
