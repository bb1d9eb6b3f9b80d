"""Small reproductions: a cluster with everything taken out that is not needed for something to be wrong with it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from lib.random_clusters import Cluster

Path = tuple[str | int, ...]


def shrink(cluster: Cluster, wrong: Callable[[Cluster], bool]) -> Cluster:
    """Take out pods, nodes and then single fields, as long as the cluster stays wrong.

    Parameters
    ----------
    cluster
        Is not changed.
    wrong
        Whether a cluster is wrong in the way in question. An exception means that it is not.

    Returns
    -------
    Cluster
        One that is wrong, and of which no single part can be taken out.
    """

    def still(candidate: Cluster) -> bool:
        try:
            return wrong(candidate)
        except Exception:  # noqa: BLE001 - half an object may be none, to either side
            return False

    smaller = True
    while smaller:
        smaller = False
        for candidate in _without_objects(cluster):
            if still(candidate):
                cluster, smaller = candidate, True
                break
        else:
            for candidate in _without_fields(cluster):
                if still(candidate):
                    cluster, smaller = candidate, True
                    break
    return cluster


def _without_objects(cluster: Cluster) -> Iterator[Cluster]:
    for name in ("pods", "nodes"):
        objects = getattr(cluster, name)
        size = len(objects) // 2
        while size:
            for start in range(0, len(objects), size):
                rest = objects[:start] + objects[start + size :]
                yield dataclasses.replace(cluster, **{name: rest})
            size //= 2


def _without_fields(cluster: Cluster) -> Iterator[Cluster]:
    for name in ("pods", "nodes"):
        objects = getattr(cluster, name)
        for number, item in enumerate(objects):
            for path in _paths(item):
                changed = copy.deepcopy(item)
                _delete(changed, path)
                yield dataclasses.replace(cluster, **{name: [*objects[:number], changed, *objects[number + 1 :]]})


def _paths(item: Any, prefix: Path = ()) -> Iterator[Path]:
    """Go through the places in a JSON value, outer ones first. Names and kinds stay."""
    kept = {"apiVersion", "kind", "name", "namespace", "nodeName", "uid", "phase", "containers", "operator", "values"}
    keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
    for key in keys:
        if key not in kept:
            yield (*prefix, key)
        yield from _paths(item[key], (*prefix, key))


def _delete(item: Any, path: Path) -> None:
    for part in path[:-1]:
        item = item[part]
    del item[path[-1]]
