"""An operator's own namespace: its history as ConfigMaps, and what somebody does to them by hand."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import yaml

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.client import ApiClient, ApiError
from engine_ops.history import names
from engine_ops.history.log import HistoryLog
from engine_ops.kube.connection import Connection
from engine_ops.kube.history_store import ConfigMapStore
from engine_ops.ml.data_point import WorkloadDataPoint

WAIT_SECONDS = 90.0
"""The operator waits up to 30 s between two tries to flush."""

Conditions = dict[str, dict[str, str]]


class HistoryPlace:
    """The namespace of an operator.

    Parameters
    ----------
    cluster
        Where.
    name
        Of the namespace.
    of
        The namespace of the requests.
    """

    def __init__(self, cluster: DevCluster, name: str, of: str) -> None:
        self.cluster = cluster
        self.name = name
        self._of = of
        self._path = f"/api/v1/namespaces/{name}/configmaps"
        self._client: ApiClient = cluster.client()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def seed(self, count: int) -> set[str]:
        """Write a history of so many points at once, as an operator would have; return their uids."""
        return asyncio.run(self._seed(count))

    async def _seed(self, count: int) -> set[str]:
        connection = await Connection.open(str(self.cluster.kubeconfig))
        try:
            log = HistoryLog(ConfigMapStore(connection, self.name), writer="seed")
            await log.load()
            uids = [f"seed-{number}" for number in range(count)]
            for uid in uids:
                stamp = log.stamp()
                log.record(_seed_point(uid, self._of, stamp), stamp)
            await log.flush()
        finally:
            await connection.close()
        return set(uids)

    def versions(self) -> dict[str, str]:
        """Return the resourceVersion of each ConfigMap of the history."""
        found = self._client.request("GET", f"{self._path}?labelSelector=engineops.dev%2Fhistory")["items"]
        return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in found}

    def content(self, name: str) -> bytes:
        """Return the bytes in a ConfigMap of the history."""
        return base64.b64decode(self._client.request("GET", f"{self._path}/{name}")["binaryData"]["points"])

    def label(self, name: str, label: str) -> str | None:
        """Return a label of a ConfigMap; None if either is not there."""
        try:
            found = self._client.request("GET", f"{self._path}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            return None
        value: str | None = found["metadata"]["labels"].get(label)
        return value

    def edit(self, name: str, content: bytes) -> None:
        """Replace the bytes in a ConfigMap; one that is sealed has to be made anew for it."""
        while True:  # again where the operator wrote in between
            found = self._client.request("GET", f"{self._path}/{name}")
            found["binaryData"]["points"] = base64.b64encode(content).decode()
            if not found.get("immutable"):
                with contextlib.suppress(ApiError):
                    self._client.request("PUT", f"{self._path}/{name}", found)
                    return
                continue
            self.delete(name)
            metadata = {key: found["metadata"][key] for key in ("name", "labels")}
            with contextlib.suppress(ApiError):  # it was missing for a moment
                self._client.request("POST", self._path, {**found, "metadata": metadata})
                return

    def delete(self, name: str) -> None:
        """Delete a ConfigMap."""
        self._client.request("DELETE", f"{self._path}/{name}")

    def create(self, path: str, body: dict[str, Any]) -> None:
        """Make an object of the core group in the namespace, such as ``resourcequotas``."""
        self._client.request("POST", f"/api/v1/namespaces/{self.name}/{path}", {"apiVersion": "v1", **body})

    def label_head(self, key: str, value: str) -> None:
        """Put a label on the head, so that the operator's next write of it conflicts."""
        self.cluster.kubectl("-n", self.name, "label", "configmap", names.HEAD, "--overwrite", f"{key}={value}")

    def forbid_config_maps(self) -> None:
        """Set a quota at what is there, and wait until it is in effect."""
        self.create(
            "resourcequotas",
            {"kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": {"count/configmaps": "0"}}},
        )

        def in_effect() -> bool:
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe"}}
            try:
                self._client.request("POST", f"{self._path}?dryRun=All", body)
            except ApiError as error:
                return "exceeded quota" in str(error)
            return False

        wait_until(in_effect, "the quota is in effect")

    def allow_config_maps(self) -> None:
        """Take the quota away."""
        self._client.request("DELETE", f"/api/v1/namespaces/{self.name}/resourcequotas/full")

    def conditions(self) -> Conditions:
        """Return what the operator says of itself, by type."""
        try:
            found = self._client.request("GET", f"{self._path}/engine-ops-status")
        except ApiError as error:
            if error.status != 404:
                raise
            return {}
        return {condition["type"]: condition for condition in yaml.safe_load(found["data"]["conditions"])}

    def wait_condition(self, type_: str, status: str, reason: str, *words: str) -> str:
        """Wait for a condition whose message has these words; return the message."""

        def stands() -> bool:
            condition = self.conditions().get(type_, {})
            same = (condition.get("status"), condition.get("reason")) == (status, reason)
            return same and all(word in condition["message"] for word in words)

        wait_until(stands, f"{type_} is {status} with {reason} and {words}", lambda: json.dumps(self.conditions()))
        return self.conditions()[type_]["message"]


def wait_until(
    is_so: Callable[[], bool], what: str, tell: Callable[[], str] = lambda: "", seconds: float = WAIT_SECONDS
) -> None:
    """Wait for something."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what} {tell()}"
        time.sleep(0.1)


def health(port: int) -> dict[str, Any]:
    """Return what the operator's health says of its history."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)["history"]
    return found


def _seed_point(uid: str, namespace: str, timestamp: int) -> WorkloadDataPoint:
    identity = {"uid": uid, "generation": 1, "run": 1, "namespace": namespace, "name": uid}
    outcome = {"of": "request", "state": "succeeded", "reason": "Solved", "closedAt": timestamp + 1}
    return WorkloadDataPoint(timestamp, "resource", {}, 1.0, True, {**identity, "outcome": outcome})
