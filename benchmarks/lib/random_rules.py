"""Seeded random scheduling rules of pods, as the API server accepts them and leaves them.

The vocabulary is small (`VALUES`), so that what one object asks for another one often has.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

Document = dict[str, Any]

HOST: Final = "kubernetes.io/hostname"
ZONE: Final = "topology.kubernetes.io/zone"
REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
HASH: Final = "pod-template-hash"
NAMESPACES: Final[Mapping[str, Mapping[str, str]]] = {
    "default": {},
    "team-a": {"team": "a", "env": "prod"},
    "team-b": {"team": "b", "env": "prod"},
    "lab": {"env": "test", "note": ""},
}
"""Labels of the namespaces, beside the one that the API server gives to each."""

NODE_LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    "disk": ("ssd", "hdd", ""),
    "generation": ("0", "1", "2", "3", "old", "007"),
    "rack": ("r1", "r2", "r3"),
    ZONE: ("z1", "z2", "z3"),
}
"""Labels of nodes beside their names. Those of generation are for Gt and Lt: not all of them are whole numbers."""

TAINTS: Final[Mapping[str, tuple[str, ...]]] = {"dedicated": ("batch", "web", ""), "maintenance": ("", "soon")}
EFFECTS: Final = ("NoSchedule", "NoSchedule", "PreferNoSchedule", "NoExecute")

APPS: Final = ("web", "api", "db", "cache")
TIERS: Final = ("front", "back")


def chance(draw: random.Random, share: float) -> bool:
    """Return true in a share of all calls."""
    return draw.random() < share


def node_selector(draw: random.Random) -> Document:
    """Return a pod's ``nodeSelector``."""
    keys = draw.sample(["disk", "rack", ZONE], 2 if chance(draw, 0.2) else 1)
    return {key: draw.choice(NODE_LABELS[key][:2]) for key in keys}


def node_affinity(draw: random.Random, node_names: list[str]) -> Document:
    """Return a pod's ``affinity.nodeAffinity``."""
    affinity: Document = {}
    if chance(draw, 0.85):
        terms = [_node_term(draw, node_names) for _ in range(draw.choice((1, 1, 2, 3)))]
        affinity[REQUIRED] = {"nodeSelectorTerms": terms}
    if not affinity or chance(draw, 0.3):
        term = {"matchExpressions": [_node_expression(draw)]}
        affinity[PREFERRED] = [{"weight": draw.randint(1, 100), "preference": term}]
    return affinity


def _node_term(draw: random.Random, node_names: list[str]) -> Document:
    term: Document = {}
    if chance(draw, 0.9):
        term["matchExpressions"] = [_node_expression(draw) for _ in range(draw.choice((1, 1, 1, 2)))]
    if chance(draw, 0.2):
        operator = draw.choice(("In", "NotIn"))
        name = draw.choice([*node_names, "gone"])
        term["matchFields"] = [{"key": "metadata.name", "operator": operator, "values": [name]}]
    # A term without either matches no node, and the API server takes it.
    return term


def _node_expression(draw: random.Random) -> Document:
    operator = draw.choice(("In", "In", "In", "NotIn", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
    key = "generation" if operator in {"Gt", "Lt"} else draw.choice([*NODE_LABELS, HOST, "absent"])
    expression: Document = {"key": key, "operator": operator}
    if operator in {"Gt", "Lt"}:
        expression["values"] = [draw.choice(("0", "1", "1", "2", "7", "x"))]
    elif operator in {"In", "NotIn"}:
        values = NODE_LABELS.get(key, ("node-0", "node-1", "node-2", "node-3"))
        expression["values"] = sorted(draw.sample(values, min(len(values), draw.choice((1, 2, 2)))))
    return expression


def tolerations(draw: random.Random) -> list[Document]:
    """Return a pod's ``tolerations``."""
    return [_toleration(draw) for _ in range(draw.choice((1, 1, 2, 3)))]


def _toleration(draw: random.Random) -> Document:
    if chance(draw, 0.08):
        everything: Document = {"operator": "Exists"}
        if chance(draw, 0.4):
            everything["effect"] = draw.choice(EFFECTS)
        return everything
    if chance(draw, 0.15):
        key = "node.kubernetes.io/unschedulable"
        return {"key": key, "operator": "Exists", "effect": draw.choice(("NoSchedule", "NoExecute"))}
    key = draw.choice(list(TAINTS))
    toleration: Document = {"key": key}
    if chance(draw, 0.4):
        toleration["operator"] = "Exists"
    else:
        if chance(draw, 0.7):
            toleration["operator"] = "Equal"
        value = draw.choice(TAINTS[key])
        if value or chance(draw, 0.5):
            toleration["value"] = value
    if chance(draw, 0.6):
        toleration["effect"] = draw.choice(EFFECTS)
        if toleration["effect"] == "NoExecute" and chance(draw, 0.5):
            toleration["tolerationSeconds"] = 300
    return toleration


def pod_affinity(draw: random.Random, labels: Mapping[str, str], *, anti: bool) -> Document:
    """Return a pod's ``affinity.podAffinity`` or ``affinity.podAntiAffinity``, for a pod with these labels."""
    affinity: Document = {}
    if chance(draw, 0.9):
        affinity[REQUIRED] = [_pod_term(draw, labels, anti=anti) for _ in range(draw.choice((1, 1, 1, 2)))]
    if not affinity or chance(draw, 0.2):
        weight = draw.randint(1, 100)
        affinity[PREFERRED] = [{"weight": weight, "podAffinityTerm": _pod_term(draw, labels, anti=anti)}]
    return affinity


def _pod_term(draw: random.Random, labels: Mapping[str, str], *, anti: bool) -> Document:
    # Wide domains are rare in anti-affinity: the first pod would close the cluster to all others.
    keys = (HOST, HOST, HOST, ZONE, "rack", "disk") if anti else (HOST, ZONE, ZONE, "rack", "disk", "absent")
    term: Document = {"topologyKey": draw.choice(keys)}
    selector = pod_selector(draw, labels)
    if selector is not None:
        term["labelSelector"] = selector
        if chance(draw, 0.15):
            _match_label_keys(draw, term, labels)
    if chance(draw, 0.25):
        term["namespaces"] = draw.sample(list(NAMESPACES), draw.choice((1, 2)))
    if chance(draw, 0.25):
        term["namespaceSelector"] = _namespace_selector(draw)
    return term


def _match_label_keys(draw: random.Random, term: Document, labels: Mapping[str, str]) -> None:
    """Set the keys, and merge them into the selector, as the API server does when the pod is created."""
    name, operator = draw.choice((("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")))
    key = draw.choice((HASH, "tier"))
    written = _keys_of(term["labelSelector"])
    if key in written:
        return
    term[name] = [key]
    if key in labels:
        expressions = term["labelSelector"].setdefault("matchExpressions", [])
        expressions.append({"key": key, "operator": operator, "values": [labels[key]]})


def _keys_of(selector: Document) -> set[str]:
    expressions = selector.get("matchExpressions", ())
    return {*selector.get("matchLabels", {}), *(expression["key"] for expression in expressions)}


def _namespace_selector(draw: random.Random) -> Document:
    options: tuple[Callable[[], Document], ...] = (
        dict,
        lambda: {"matchLabels": {"env": draw.choice(("prod", "test"))}},
        lambda: {"matchLabels": {"kubernetes.io/metadata.name": draw.choice(list(NAMESPACES))}},
        lambda: {"matchExpressions": [{"key": "team", "operator": draw.choice(("Exists", "DoesNotExist"))}]},
        lambda: {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["b"]}]},
    )
    return draw.choice(options)()


def pod_selector(draw: random.Random, labels: Mapping[str, str]) -> Document | None:
    """Return a selector over pods, half of the time one that selects a pod with these labels. None selects no pod."""
    if chance(draw, 0.5):
        key = draw.choice(sorted(labels))
        return {"matchLabels": {key: labels[key]}}
    options: tuple[Callable[[], Document | None], ...] = (
        lambda: {"matchLabels": {"app": draw.choice(APPS)}},
        lambda: {"matchLabels": {"app": draw.choice(APPS), "tier": draw.choice(TIERS)}},
        lambda: {"matchExpressions": [_pod_expression(draw)]},
        lambda: {"matchExpressions": [_pod_expression(draw)], "matchLabels": {"tier": draw.choice(TIERS)}},
        lambda: {"matchExpressions": [_pod_expression(draw), _pod_expression(draw)]},
        dict,
        lambda: None,
    )
    return draw.choices(options, (4, 2, 4, 2, 2, 1, 1))[0]()


def _pod_expression(draw: random.Random) -> Document:
    operator = draw.choice(("In", "In", "NotIn", "Exists", "DoesNotExist"))
    key, values = draw.choice((("app", APPS), ("app", APPS), ("tier", TIERS), ("absent", ("x",))))
    expression: Document = {"key": key, "operator": operator}
    if operator in {"In", "NotIn"}:
        expression["values"] = sorted(draw.sample(values, min(len(values), draw.choice((1, 2)))))
    return expression


def topology_spread(draw: random.Random, labels: Mapping[str, str]) -> list[Document]:
    """Return a pod's ``topologySpreadConstraints``, for a pod with these labels."""
    keys = draw.sample([HOST, ZONE, ZONE, "rack", "disk"], draw.choice((1, 1, 2)))
    return [_spread_constraint(draw, key, labels) for key in dict.fromkeys(keys)]


def _spread_constraint(draw: random.Random, key: str, labels: Mapping[str, str]) -> Document:
    hard = chance(draw, 0.85)
    constraint: Document = {
        "maxSkew": draw.choice((1, 1, 1, 2, 3)),
        "topologyKey": key,
        "whenUnsatisfiable": "DoNotSchedule" if hard else "ScheduleAnyway",
    }
    selector = pod_selector(draw, labels)
    if selector is not None:
        constraint["labelSelector"] = selector
        if chance(draw, 0.2):
            # Half of them as a pod has it that an older API server took in: keys that are not merged.
            merged = dict(constraint["labelSelector"])
            constraint["labelSelector"] = merged | {"matchExpressions": [*merged.get("matchExpressions", ())]}
            _spread_label_keys(draw, constraint, labels)
    if hard and chance(draw, 0.25):
        constraint["minDomains"] = draw.randint(1, 5)
    if chance(draw, 0.4):
        constraint["nodeAffinityPolicy"] = draw.choice(("Honor", "Ignore"))
    if chance(draw, 0.4):
        constraint["nodeTaintsPolicy"] = draw.choice(("Honor", "Ignore"))
    return constraint


def _spread_label_keys(draw: random.Random, constraint: Document, labels: Mapping[str, str]) -> None:
    key = draw.choice((HASH, "tier"))
    if key in _keys_of(constraint["labelSelector"]):
        return
    constraint["matchLabelKeys"] = [key]
    if key in labels and chance(draw, 0.5):
        constraint["labelSelector"]["matchExpressions"].append({"key": key, "operator": "In", "values": [labels[key]]})
