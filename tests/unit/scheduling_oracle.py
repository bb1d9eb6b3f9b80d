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


def ports_clash(task: dict[str, Any], other: dict[str, Any]) -> bool:
    return any(
        mine[1:] == theirs[1:] and (mine[0] == theirs[0] or "0.0.0.0" in {mine[0], theirs[0]})  # noqa: S104
        for mine in task.get("hostPorts", [])
        for theirs in other.get("hostPorts", [])
    )


def namespace_of(task: dict[str, Any]) -> str:
    name: str = task.get("namespace", "")
    return name


def merged_selector(term: dict[str, Any], owner: dict[str, Any]) -> dict[str, Any] | None:
    """The term's selector as the API server stores it: with matchLabelKeys and mismatchLabelKeys."""
    selector: dict[str, Any] | None = term.get("labelSelector")
    if selector is None:
        return None
    labels = owner.get("labels", {})
    added = [
        {"key": key, "operator": operator, "values": [labels[key]]}
        for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn"))
        for key in term.get(field, [])
        if key in labels
    ]
    return {**selector, "matchExpressions": [*selector.get("matchExpressions", []), *added]}


def terms(task: dict[str, Any], side: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = task.get("affinity", {}).get(side, {}).get(AFFINITY, [])
    return found


class Oracle:
    """The cluster, one task after the other."""

    def __init__(self, nodes: list[dict[str, Any]], namespaces: dict[str, dict[str, str]] | None = None) -> None:
        self.nodes = nodes
        self.namespaces = namespaces or {}
        self.placed: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def near_enough(self, term: dict[str, Any], owner: dict[str, Any], task: dict[str, Any]) -> bool:
        """Whether the task is one of those that the owner's term chooses."""
        return self._near(term, owner, task, self.namespaces.get(namespace_of(task), {}))

    def seeks(self, term: dict[str, Any], owner: dict[str, Any], task: dict[str, Any]) -> bool:
        """The same for an owner to be placed: kube-scheduler 1.36 holds its namespaceSelector against no labels too."""
        return self.near_enough(term, owner, task) or self._near(term, owner, task, {})

    @staticmethod
    def _near(term: dict[str, Any], owner: dict[str, Any], task: dict[str, Any], labels: dict[str, str]) -> bool:
        namespace, wanted = namespace_of(task), term.get("namespaceSelector")
        if not term.get("namespaces") and wanted is None:
            there = namespace == namespace_of(owner)
        else:
            there = namespace in term.get("namespaces", []) or chooses(wanted, labels)
        return there and chooses(merged_selector(term, owner), task.get("labels", {}))

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
        fixed = self._fixed_reason(task, node)
        if fixed:
            return [fixed]
        if any(where is node and ports_clash(task, placed) for placed, where in self.placed):
            return ["node(s) didn't have free ports for the requested pod ports"]
        room = self._room(task, node)
        if room:
            return room
        company = self._spread(task, node) or self._company(task, node)
        return [company] if company else []

    @staticmethod
    def _fixed_reason(task: dict[str, Any], node: dict[str, Any]) -> str | None:
        if node.get("closed"):
            return "node(s) were not selected by the request"
        if node.get("unschedulable") and not tolerates(task, CORDON):
            return "node(s) were unschedulable"
        if tainted(task, node):
            return "node(s) had untolerated taint(s)"
        return None if affine(task, node) else "node(s) didn't match Pod's node affinity/selector"

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
                counts_here = namespace_of(placed) == namespace_of(task) and not placed.get("terminating")
                if eligible and counts_here and selector and chooses(selector, placed.get("labels", {})):
                    counts[where["labels"][key]] += 1
            least = min(counts.values(), default=0)
            if len(counts) < constraint.get("minDomains", 1):
                least = 0
            own = int(chooses(selector, task.get("labels", {})))
            if counts.get(node["labels"][key], 0) + own - least > constraint["maxSkew"]:
                return SPREAD
        return None

    def _company(self, task: dict[str, Any], node: dict[str, Any]) -> str | None:
        labels = node.get("labels", {})
        near = terms(task, "podAffinity")
        if near:
            if any(term["topologyKey"] not in labels for term in near):
                return "node(s) didn't match pod affinity rules"
            friends = [where for placed, where in self.placed if all(self.seeks(term, task, placed) for term in near)]
            found = all(
                any(where.get("labels", {}).get(t["topologyKey"]) == labels[t["topologyKey"]] for where in friends)
                for t in near
            )
            known = any(t["topologyKey"] in where.get("labels", {}) for where in friends for t in near)
            first = not known and all(self.seeks(term, task, task) for term in near)
            if not found and not first:
                return "node(s) didn't match pod affinity rules"
        if any(
            self._together(t, node, where) and self.seeks(t, task, placed)
            for t in terms(task, "podAntiAffinity")
            for placed, where in self.placed
        ):
            return "node(s) didn't match pod anti-affinity rules"
        for placed, where in self.placed:
            if any(
                self._together(term, node, where) and self.near_enough(term, placed, task)
                for term in terms(placed, "podAntiAffinity")
            ):
                return "node(s) didn't satisfy existing pods anti-affinity rules"
        return None

    @staticmethod
    def _together(term: dict[str, Any], node: dict[str, Any], where: dict[str, Any]) -> bool:
        domain = node.get("labels", {}).get(term["topologyKey"])
        return domain is not None and where.get("labels", {}).get(term["topologyKey"]) == domain
