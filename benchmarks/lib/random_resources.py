"""Seeded random containers, requests and resizes of pods, as the API server leaves them.

That is: where only a limit was written, the request is there too, and no amount is finer than a thousandth.
"""

from __future__ import annotations

import copy
import random
from typing import Any, Final

from engine_ops.api.quantity import parse_quantity
from lib.random_rules import Document, chance

GPU: Final = "example.com/gpu"
CPU: Final = ("100m", "250m", "0.5", "500m", "1", "1500m", "2")
MEMORY: Final = ("64Mi", "256Mi", "512Mi", "1Gi", "1500M", "2Gi", "0.5Gi", "1e9", "123456789")


def containers(draw: random.Random) -> Document:
    """Return the parts of a pod's spec that say what it takes: containers, overhead, pod-level resources."""
    spec: Document = {"containers": [_container(draw, "main")]}
    if chance(draw, 0.25):
        spec["containers"].append(_container(draw, "second"))
    if chance(draw, 0.25):
        names = ("setup", "proxy", "migrate")[: draw.choice((1, 2, 3))]
        spec["initContainers"] = [_init_container(draw, name) for name in names]
    if chance(draw, 0.12):
        spec["overhead"] = {"cpu": draw.choice(("50m", "250m")), "memory": draw.choice(("32Mi", "100M"))}
    if chance(draw, 0.12):
        spec["resources"] = _pod_level(draw, [*spec["containers"], *spec.get("initContainers", ())])
    if chance(draw, 0.25):
        draw.choice(spec["containers"])["ports"] = _ports(draw)
    return spec


def _container(draw: random.Random, name: str) -> Document:
    container: Document = {"name": name, "image": "registry.invalid/app"}
    if chance(draw, 0.85):
        container["resources"] = _resources(draw)
    return container


def _init_container(draw: random.Random, name: str) -> Document:
    container = _container(draw, name)
    if chance(draw, 0.45):
        container["restartPolicy"] = "Always"
    if chance(draw, 0.15):
        container["ports"] = _ports(draw)
    return container


def _resources(draw: random.Random) -> Document:
    requests: Document = {}
    if chance(draw, 0.9):
        requests["cpu"] = draw.choice(CPU)
    if chance(draw, 0.85):
        requests["memory"] = draw.choice(MEMORY)
    if chance(draw, 0.1):
        requests["ephemeral-storage"] = draw.choice(("1Gi", "2G", "0"))
    if chance(draw, 0.05):
        requests["cpu"] = draw.choice(("0", "1m", "0.333"))
    limits = {name: requests[name] for name in requests if chance(draw, 0.3)}
    if chance(draw, 0.15):
        requests[GPU] = limits[GPU] = draw.choice(("1", "1", "2", "0"))
    if chance(draw, 0.04):
        requests["hugepages-2Mi"] = limits["hugepages-2Mi"] = draw.choice(("2Mi", "4Mi"))
    return {"requests": requests} | ({"limits": limits} if limits else {})


def _pod_level(draw: random.Random, members: list[Document]) -> Document:
    """Return pod-level resources, which the API server takes only if they are no less than the containers' own."""
    asked = [member.get("resources", {}).get("requests", {}) for member in members]
    totals = {
        "cpu": f"{1000 * sum(parse_quantity(part.get('cpu', 0)) for part in asked) + draw.choice((0, 500)):.0f}m",
        "memory": f"{sum(parse_quantity(part.get('memory', 0)) for part in asked) + draw.choice((0, 2**28)):.0f}",
    }
    limited = chance(draw, 0.5)
    # Beside a limit the API server fills in what containers ask for.
    needed = {name for name in totals if limited and any(name in part for part in asked)}
    chosen = needed | {draw.choice(("cpu", "memory"))} | ({"cpu", "memory"} if chance(draw, 0.4) else set())
    requests = {name: totals[name] for name in sorted(chosen)}
    return {"requests": requests} | ({"limits": dict(requests)} if limited else {})


def _ports(draw: random.Random) -> list[Document]:
    ports: list[Document] = []
    for _ in range(draw.choice((1, 1, 2))):
        port: Document = {"containerPort": 8080, "protocol": draw.choice(("TCP", "TCP", "UDP"))}
        if chance(draw, 0.85):
            port["hostPort"] = draw.choice((8080, 9090))
            if chance(draw, 0.5):
                port["hostIP"] = draw.choice(("0.0.0.0", "127.0.0.1", "10.0.0.7"))  # noqa: S104 - a value to compare
        if port not in ports:
            ports.append(port)
    return ports


def resized(draw: random.Random, spec: Document) -> Document:
    """Return the status of a running pod whose resize is under way, waits, was refused, or is done."""
    status: Document = {"phase": "Running"}
    for field, named in (("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")):
        states = [_container_status(draw, container) for container in spec.get(field, ()) if chance(draw, 0.8)]
        if states:
            status[named] = states
    if "resources" in spec and chance(draw, 0.6):
        status["resources"] = {"requests": _scaled(draw, spec["resources"]["requests"])}
        status["allocatedResources"] = _scaled(draw, spec["resources"]["requests"])
    condition = draw.choice((None, "PodResizePending", "PodResizePending", "PodResizeInProgress"))
    if condition is not None:
        reason = draw.choice(("Infeasible", "Deferred")) if condition == "PodResizePending" else ""
        status["conditions"] = [{"type": condition, "status": "True", "reason": reason}]
    return status


def _container_status(draw: random.Random, container: Document) -> Document:
    status: Document = {"name": container["name"], "image": container["image"], "imageID": "", "ready": True}
    status["restartCount"] = 0
    requests: dict[str, Any] = container.get("resources", {}).get("requests", {})
    if chance(draw, 0.9):
        status["resources"] = {"requests": _scaled(draw, requests)}
    if chance(draw, 0.9):
        status["allocatedResources"] = _scaled(draw, requests)
    return status


def _scaled(draw: random.Random, requests: Document) -> Document:
    changed = copy.deepcopy(requests)
    if "cpu" in changed and chance(draw, 0.5):
        changed["cpu"] = draw.choice(CPU)
    if "memory" in changed and chance(draw, 0.5):
        changed["memory"] = draw.choice(MEMORY)
    return changed
