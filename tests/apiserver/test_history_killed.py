"""kill -9 at random instants under load: every finished solve is in the history, once."""

from __future__ import annotations

import collections
import json
import logging
import os
import random
import threading
import time
from typing import Any, Self

import pytest
from history_objects import HistoryObjects, Point, job, key_of
from operator_process import OperatorProcess, StartOperator
from request_objects import SMALL, RequestObjects

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.client import ApiClient, ApiError

logger = logging.getLogger(__name__)

KILLS = int(os.environ.get("ENGINE_OPS_KILLS", "50"))
LAST_SECONDS = 90.0
REQUESTS = 300
JOBS = 6


class Load:
    """Makes requests and changes them, without pause, and notes every finished solve that it sees.

    Parameters
    ----------
    client, namespace
        Where.
    """

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self._client = client
        self._path = f"/apis/engineops.dev/v1alpha1/namespaces/{namespace}/optimizationrequests"
        self._random = random.Random(5)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self.finished: set[tuple[str, int, int]] = set()
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def note(self) -> list[dict[str, Any]]:
        """Note what the statuses say, and return the objects."""
        found: list[dict[str, Any]] = self._client.request("GET", self._path)["items"]
        for item in found:
            for fact in item.get("status", {}).get("historyPoints", ()):
                self.finished.add((item["metadata"]["uid"], fact["generation"], fact["run"]))
        return found

    def _run(self) -> None:
        number = 0
        try:
            while not self._over.is_set():
                for _ in range(min(3, REQUESTS - number)):
                    self._make(number)
                    number += 1
                # A change right after an answer: the answer's point may not have been written yet.
                items = self.note()
                for item in self._random.sample(items, min(10, len(items))):
                    if item.get("status", {}).get("observedGeneration", -1) == item["metadata"]["generation"]:
                        self._change(item)
                self._over.wait(0.15)
        except Exception as error:  # noqa: BLE001 - the test raises it, in its own thread
            self.error = error

    def _make(self, number: int) -> None:
        kind = self._random.choice(("good", "good", "bad", "slow"))
        data = {"items": [{"id": "a", "cpu": "x"}]} if kind == "bad" else SMALL
        spec: dict[str, Any] = {"type": "resource", "data": data, "searchSeconds": 1 if kind == "slow" else 0}
        if number < JOBS:
            spec["workloadRef"] = {"kind": "Job", "name": f"job-{number}"}
        body = {
            "apiVersion": "engineops.dev/v1alpha1",
            "kind": "OptimizationRequest",
            "metadata": {"name": f"r-{number}"},
            "spec": spec,
        }
        self._client.request("POST", self._path, body)

    def _change(self, item: dict[str, Any]) -> None:
        cpu = self._random.choice((2, 3, 4, 6, 8))
        data = {**SMALL, "nodeCapacity": {"cpu": cpu, "memory": "8Gi"}}
        changed = {key: item[key] for key in ("apiVersion", "kind", "metadata")}
        changed["spec"] = {**item["spec"], "data": data}
        try:
            self._client.request("PUT", f"{self._path}/{item['metadata']['name']}", changed)
        except ApiError as error:
            if error.status != 409:
                raise


def complete(load: Load, points: list[Point]) -> bool:
    """Whether every request is answered, and every solve that was seen is there."""
    answered = all(
        item.get("status", {}).get("observedGeneration", -1) == item["metadata"]["generation"] for item in load.note()
    )
    return answered and load.finished <= {key_of(point) for point in points}


@pytest.mark.usefixtures("node")
def test_kill_9_at_random_instants_loses_no_point_and_doubles_none(
    start_operator: StartOperator, cluster: DevCluster, namespace: str
) -> None:
    requests = RequestObjects(cluster, namespace)
    history = HistoryObjects(cluster, namespace)
    for number in range(JOBS):
        outcome = "Failed" if number % 3 == 2 else None
        requests.kubectl("apply", "-f", "-", stdin=json.dumps(job(f"job-{number}", f"{2 + 8 * number}s", outcome)))
    instants = random.Random(7)
    quick = ("--history-flush-seconds=0.5", "--usage-period-seconds=1")
    with cluster.client() as client, cluster.client() as reader:
        with Load(client, namespace) as load:
            for _ in range(KILLS):
                operator: OperatorProcess = start_operator(*quick, wait=instants.random() < 0.8)
                time.sleep(instants.uniform(0, 2.5))
                operator.kill9()
                operator.stop()  # what is left of its workers
        assert load.error is None, load.error
        load._client = reader
        start_operator(*quick)
        points = history.wait(lambda found: complete(load, found), LAST_SECONDS)
    counts = collections.Counter(key_of(point) for point in points)
    logger.info("%d kills, %d finished solves seen, %d points", KILLS, len(load.finished), len(points))
    assert not [key for key, count in counts.items() if count != 1]
    assert set(counts) >= load.finished
    assert len(load.finished) > KILLS
    # Those that named a Job have its outcome, where the Job was there for the point to find.
    with_jobs = [point for point in points if point["metadata"].get("workload", {}).get("kind") == "Job"]
    assert {point["metadata"]["workload"]["name"] for point in with_jobs}
    for point in with_jobs:
        assert point["metadata"]["outcome"]["of"] in {"workload", "request"}
