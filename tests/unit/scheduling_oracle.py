"""kube-scheduler's filters, one task and one node at a time, on plain dictionaries: slow, and easy to read."""

from __future__ import annotations

from collections import Counter
from typing import Any

AFFINITY = "requiredDuringSchedulingIgnoredDuringExecution"
SPREAD = "node(s) didn't match pod topology spread constraints"
CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def holds(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    value = labels.get(expression["key"])
    values = expression.get("values", [])
    match expression["operator"]:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and value.isdigit() and int(value) > int(values[0])
        case "Lt":
            return value is not None and value.isdigit() and int(value) < int(values[0])
    raise AssertionError(expression)


def chooses(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    if selector is None:
        return False
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return equal and all(holds(e, labels) for e in selector.get("matchExpressions", []))


def tolerates(task: dict[str, Any], taint: dict[str, str]) -> bool:
    for toleration in task.get("tolerations", []):
        if toleration.get("effect") and toleration["effect"] != taint["effect"]:
            continue
        if toleration.get("key") and toleration["key"] != taint["key"]:
            continue
        if toleration.get("operator", "Equal") == "Exists":
            return True
        if toleration.get("value", "") == taint.get("value", ""):
            return True
    return False


def tainted(task: dict[str, Any], node: dict[str, Any]) -> bool:
    return any(taint["effect"] != "PreferNoSchedule" and not tolerates(task, taint) for taint in node.get("taints", []))


def affine(task: dict[str, Any], node: dict[str, Any]) -> bool:
    labels = node.get("labels", {})
    if any(labels.get(key) != value for key, value in task.get("nodeSelector", {}).items()):
        return False
    required = task.get("affinity", {}).get("nodeAffinity", {}).get(AFFINITY)
    if required is None:
        return True
    for term in required["nodeSelectorTerms"]:
        if not term.get("matchExpressions"):
            continue
        if all(holds(e, labels) for e in term["matchExpressions"]):
            return True
    return False


def terms(task: dict[str, Any], side: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = task.get("affinity", {}).get(side, {}).get(AFFINITY, [])
    return found


class Oracle:
    """The cluster, one task after the other."""

    def __init__(self, nodes: list[dict[str, Any]]) -> None:
        self.nodes = nodes
        self.placed: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def place(self, task: dict[str, Any], node: dict[str, Any]) -> None:
        self.placed.append((task, node))

    def used(self, node: dict[str, Any]) -> tuple[float, float, int]:
        here = [task for task, where in self.placed if where is node]
        return (
            node["cpuLoad"] + sum(task["cpuRequired"] for task in here),
            node["memoryLoad"] + sum(task["memoryRequired"] for task in here),
            node.get("podCount", 0) + len(here),
        )

    def reasons(self, task: dict[str, Any], node: dict[str, Any]) -> list[str]:
        if node.get("unschedulable") and not tolerates(task, CORDON):
            return ["node(s) were unschedulable"]
        if tainted(task, node):
            return ["node(s) had untolerated taint(s)"]
        if not affine(task, node):
            return ["node(s) didn't match Pod's node affinity/selector"]
        room = self._room(task, node)
        if room:
            return room
        spread = self._spread(task, node)
        if spread:
            return [spread]
        company = self._company(task, node)
        return [company] if company else []

    def message(self, task: dict[str, Any]) -> str:
        counts = Counter(reason for node in self.nodes for reason in self.reasons(task, node))
        listed = ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))
        return f"0/{len(self.nodes)} nodes are available: {listed}."

    def _room(self, task: dict[str, Any], node: dict[str, Any]) -> list[str]:
        capacity = node.get("capacity", {"cpu": 100, "memory": 100})
        cpu, memory, count = self.used(node)
        reasons = []
        if "pods" in capacity and count + 1 > capacity["pods"]:
            reasons.append("Too many pods")
        if task["cpuRequired"] > 0 and cpu + task["cpuRequired"] > capacity["cpu"]:
            reasons.append("Insufficient cpu")
        if task["memoryRequired"] > 0 and memory + task["memoryRequired"] > capacity["memory"]:
            reasons.append("Insufficient memory")
        return reasons

    def _spread(self, task: dict[str, Any], node: dict[str, Any]) -> str | None:
        hard = [c for c in task.get("topologySpreadConstraints", []) if c["whenUnsatisfiable"] == "DoNotSchedule"]
        keys = [c["topologyKey"] for c in hard]
        for constraint in hard:
            key, selector = constraint["topologyKey"], constraint.get("labelSelector")
            if key not in node.get("labels", {}):
                return f"{SPREAD} (missing required label)"
            counts = {
                other["labels"][key]: 0
                for other in self.nodes
                if affine(task, other) and all(k in other.get("labels", {}) for k in keys)
            }
            for placed, where in self.placed:
                # An empty selector chooses all, but counts none.
                eligible = affine(task, where) and all(k in where.get("labels", {}) for k in keys)
                if eligible and selector and chooses(selector, placed.get("labels", {})):
                    counts[where["labels"][key]] += 1
            least = min(counts.values(), default=0)
            if len(counts) < constraint.get("minDomains", 1):
                least = 0
            own = int(chooses(selector, task.get("labels", {})))
            if counts.get(node["labels"][key], 0) + own - least > constraint["maxSkew"]:
                return SPREAD
        return None

    def _company(self, task: dict[str, Any], node: dict[str, Any]) -> str | None:
        labels, own = node.get("labels", {}), task.get("labels", {})
        near = terms(task, "podAffinity")
        if near:
            if any(term["topologyKey"] not in labels for term in near):
                return "node(s) didn't match pod affinity rules"
            friends = [
                where
                for placed, where in self.placed
                if all(chooses(term.get("labelSelector"), placed.get("labels", {})) for term in near)
            ]
            found = all(
                any(where.get("labels", {}).get(t["topologyKey"]) == labels[t["topologyKey"]] for where in friends)
                for t in near
            )
            known = any(t["topologyKey"] in where.get("labels", {}) for where in friends for t in near)
            first = not known and all(chooses(term.get("labelSelector"), own) for term in near)
            if not found and not first:
                return "node(s) didn't match pod affinity rules"
        if any(
            self._together(t, placed, node, where)
            for t in terms(task, "podAntiAffinity")
            for placed, where in self.placed
        ):
            return "node(s) didn't match pod anti-affinity rules"
        for placed, where in self.placed:
            if any(self._together(term, task, node, where) for term in terms(placed, "podAntiAffinity")):
                return "node(s) didn't satisfy existing pods anti-affinity rules"
        return None

    @staticmethod
    def _together(term: dict[str, Any], task: dict[str, Any], node: dict[str, Any], where: dict[str, Any]) -> bool:
        domain = node.get("labels", {}).get(term["topologyKey"])
        same = domain is not None and where.get("labels", {}).get(term["topologyKey"]) == domain
        return same and chooses(term.get("labelSelector"), task.get("labels", {}))
