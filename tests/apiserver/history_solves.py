"""Requests of one namespace, and every finished solve of them that was ever seen."""

from __future__ import annotations

import collections
import time
from typing import Any

from history_objects import HistoryObjects, Point, key_of
from history_place import WAIT_SECONDS, wait_until
from request_objects import SMALL

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.client import ApiClient, ApiError

Key = tuple[str, int, int]


class Solves:
    """Makes requests, changes them, and notes what their statuses say.

    Parameters
    ----------
    cluster, namespace
        Where.
    history
        Where their points should be.
    """

    def __init__(self, cluster: DevCluster, namespace: str, history: HistoryObjects) -> None:
        self._client: ApiClient = cluster.client()
        self._path = f"/apis/engineops.dev/v1alpha1/namespaces/{namespace}/optimizationrequests"
        self._history = history
        self.finished: set[Key] = set()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def make(self, *named: str, **spec: Any) -> None:
        """Make requests."""
        for name in named:
            body = {
                "apiVersion": "engineops.dev/v1alpha1",
                "kind": "OptimizationRequest",
                "metadata": {"name": name},
                "spec": {"type": "resource", "data": SMALL, "searchSeconds": 0, **spec},
            }
            self._client.request("POST", self._path, body)

    def make_some(self, prefix: str, count: int, **spec: Any) -> None:
        """Make so many requests."""
        self.make(*(f"{prefix}-{number}" for number in range(count)), **spec)

    def change(self, name: str, cpu: int) -> None:
        """Ask another question with a request."""
        while True:
            item = self._client.request("GET", f"{self._path}/{name}")
            item["spec"]["data"] = {**SMALL, "nodeCapacity": {"cpu": cpu, "memory": "8Gi"}}
            try:
                self._client.request("PUT", f"{self._path}/{name}", item)
            except ApiError as error:
                if error.status != 409:
                    raise
            else:
                return

    def change_all(self, cpu: int) -> None:
        """Ask another question with every request that there is."""
        for item in self.note():
            self.change(item["metadata"]["name"], cpu)

    def note(self) -> list[dict[str, Any]]:
        """Note what the statuses say, and return the objects."""
        found: list[dict[str, Any]] = self._client.request("GET", self._path)["items"]
        for item in found:
            for fact in item.get("status", {}).get("historyPoints", ()):
                self.finished.add((item["metadata"]["uid"], fact["generation"], fact["run"]))
        return found

    def runs(self, name: str) -> int:
        """Return how often a request was answered."""
        status = next(item for item in self.note() if item["metadata"]["name"] == name).get("status", {})
        return int(status.get("run", 0))

    def all_answered(self) -> bool:
        """Whether every request has an answer to what it asks now."""
        return all(
            item.get("status", {}).get("observedGeneration", -1) == item["metadata"]["generation"]
            for item in self.note()
        )

    def wait_answered(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait for that."""
        wait_until(self.all_answered, "every request is answered", seconds=seconds)

    def wait_kept(self, besides: set[str] = frozenset(), seconds: float = WAIT_SECONDS) -> list[Point]:
        """Wait until the history has each solve that was seen, and these uids; each point must be there just once."""
        self.wait_answered(seconds)
        self.note()

        deadline = time.monotonic() + seconds
        while True:
            points = self._history.points()
            counts = collections.Counter(map(key_of, points))
            missing = self.finished - counts.keys()
            missing_uids = besides - {uid for uid, _, _ in counts}
            if not missing and not missing_uids:
                break
            assert time.monotonic() < deadline, f"not in the history after {seconds} s: {missing} {missing_uids}"
            time.sleep(0.3)
        assert not {key: count for key, count in counts.items() if count != 1}
        return points
