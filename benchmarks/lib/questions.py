"""The requests that the load consists of, encoded once."""

from __future__ import annotations

from typing import Any

import msgspec

LARGE_ITEMS = 5000
SHAPES = 50
"""The items of a large request are of so many sizes: what is measured is the way of the data, not the packing."""


def small(name: str) -> bytes:
    """Return a request of three groups of items."""
    items = [
        {"id": "web", "cpu": "500m", "memory": "1Gi", "count": 8},
        {"id": "cache", "cpu": 1, "memory": "4Gi", "count": 3},
        {"id": "batch", "cpu": "1500m", "memory": "2Gi", "count": 4},
    ]
    return _encode(name, {"items": items, "nodeCapacity": {"cpu": 8, "memory": "32Gi", "pods": 110}})


def large(name: str, count: int = LARGE_ITEMS) -> bytes:
    """Return a request with each item inline; 5,000 are about 230 KB of JSON."""
    items = [
        {"id": f"item-{number:05d}", "cpu": f"{100 + 10 * (number % SHAPES)}m", "memory": "512Mi"}
        for number in range(count)
    ]
    return _encode(name, {"items": items, "nodeCapacity": {"cpu": 64, "memory": "256Gi"}})


def mixed(name: str, count: int) -> bytes:
    """Return a request of so many items, no two of a size; 100 take a worker some milliseconds."""
    items = [
        {"id": f"item-{number:05d}", "cpu": f"{100 + 10 * (37 * number % count)}m", "memory": f"{128 + 16 * number}Mi"}
        for number in range(count)
    ]
    return _encode(name, {"items": items, "nodeCapacity": {"cpu": 8, "memory": "32Gi"}})


def predicted(name: str) -> bytes:
    """Return a request that only a model can answer."""
    return _encode(name, {"queueDepth": 420}, type_="ml-driven")


def _encode(name: str, data: dict[str, Any], *, type_: str = "resource") -> bytes:
    return msgspec.json.encode(
        {
            "apiVersion": "engineops.dev/v1alpha1",
            "kind": "OptimizationRequest",
            "metadata": {"name": name},
            "spec": {"type": type_, "searchSeconds": 0, "data": data},
        }
    )
