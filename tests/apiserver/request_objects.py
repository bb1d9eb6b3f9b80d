"""OptimizationRequests for tests of the operator: making them, reading them, waiting for what becomes of them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

from waiting import wait_until

from engine_ops.devcluster import DevCluster

WAIT_SECONDS = 90.0
"""What waits is tried again after a minute at the latest."""

SMALL = {
    "items": [{"id": "web", "cpu": "500m", "memory": "1Gi", "count": 6}],
    "nodeCapacity": {"cpu": 2, "memory": "8Gi"},
}
"""Six items, two nodes, proven at once."""


def hard(seed: int = 1, items: int = 400) -> dict[str, Any]:
    """Return data that no search proves optimal within seconds: three resources, all of them scarce."""
    random_ = random.Random(seed)
    return {
        "items": [
            {
                "id": f"item-{number}",
                "cpu": f"{random_.randint(1100, 4900)}m",
                "memory": f"{random_.randint(1100, 4900)}Mi",
                "resources": {"example.com/lanes": random_.randint(11, 49)},
            }
            for number in range(items)
        ],
        "nodeCapacity": {"cpu": 10, "memory": "10000Mi", "resources": {"example.com/lanes": 100}},
    }


class RequestObjects:
    """The requests of one namespace.

    Parameters
    ----------
    cluster, namespace
        Where.
    """

    def __init__(self, cluster: DevCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def apply(self, name: str, spec: dict[str, Any]) -> None:
        """Make or change a request."""
        manifest = {
            "apiVersion": "engineops.dev/v1alpha1",
            "kind": "OptimizationRequest",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(manifest))

    def resource(self, name: str, data: dict[str, Any] | None = None, **spec: Any) -> None:
        """Make or change a request of type resource."""
        self.apply(name, {"type": "resource", "data": SMALL if data is None else data, **spec})

    def config_map(self, name: str, **data: str) -> None:
        """Make or change a ConfigMap."""
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace},
            "data": data,
        }
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in the namespace and return what it prints."""
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin, check=check).stdout

    def get(self, name: str) -> dict[str, Any]:
        """Read a request."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "optreq", name, "-o", "json"))
        return found

    def list(self) -> list[dict[str, Any]]:
        """Read all of them."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", "optreq", "-o", "json"))["items"]
        return found

    def wait(self, name: str, until: Callable[[dict[str, Any]], bool], seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """Wait until a request is as told, and return it."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.get(name)
            if until(found):
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"{name} is not as awaited after {seconds} s: {json.dumps(found.get('status'))}")
            time.sleep(0.1)

    def wait_reason(self, name: str, reason: str, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """Wait until Ready has this reason for the spec as it is, and return the request."""

        def has_reason(found: dict[str, Any]) -> bool:
            ready = condition(found, "Ready")
            return ready.get("reason") == reason and ready["observedGeneration"] == found["metadata"]["generation"]

        return self.wait(name, has_reason, seconds)

    def events(self) -> list[dict[str, Any]]:
        """Read the Events of the namespace."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", "events", "-o", "json"))["items"]
        return found

    def wait_event(self, reason: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait until there is an Event with this reason: it comes after the status that it tells of."""
        wait_until(lambda: {event["reason"] for event in self.events()}, lambda told: reason in told, reason, seconds)

    def wait_gone(self, name: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait until there is no such request."""
        self.kubectl("wait", "--for=delete", f"optreq/{name}", f"--timeout={seconds:.0f}s")


def condition(found: dict[str, Any], type_: str) -> dict[str, Any]:
    """Return a condition of a request, or an empty one."""
    for entry in found.get("status", {}).get("conditions", ()):
        if entry["type"] == type_:
            return entry
    return {}


def answered(found: dict[str, Any]) -> bool:
    """Whether the status is for the spec as it is."""
    return bool(found["status"].get("observedGeneration") == found["metadata"]["generation"])
