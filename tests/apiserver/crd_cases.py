"""Every rule of the two CRDs: something that the API server accepts, and something that it refuses."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from engine_ops.api.crd import RESOURCES, Resource
from engine_ops.api.fields import MAX_COUNT, YEAR_SECONDS

REQUEST, PLUGIN = RESOURCES

ABSENT: Any = object()
"""As a value: the field is not there."""

PHRASES = {
    "required": "Required value",
    "enum": "Unsupported value",
    "minimum": "should be greater than or equal to",
    "maximum": "should be less than or equal to",
    "minLength": "should be at least",
    "maxLength": "Too long",
    "pattern": "should match",
    "minItems": "should have at least",
    "maxItems": "Too many",
    "maxProperties": "Too many",
    "format": "must be of type date-time",
    "x-kubernetes-list-type": "Duplicate value",
}
"""What the API server says when a keyword of the schema is broken."""


class Case(NamedTuple):
    resource: Resource
    path: str
    keyword: str
    accepted: Any
    rejected: Any

    @property
    def id(self) -> str:
        return f"{self.resource.short_name}-{self.path}-{self.keyword}"


class RuleCase(NamedTuple):
    resource: Resource
    name: str
    accepted: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    path: str
    message: str

    @property
    def id(self) -> str:
        return f"{self.resource.short_name}-{self.name}"


def _bounds(resource: Resource, path: str, low: int, high: int) -> list[Case]:
    return [Case(resource, path, "minimum", low, low - 1), Case(resource, path, "maximum", high, high + 1)]


def _name(resource: Resource, path: str, *, length: int = 253, good: str = "a-1", bad: str = "a_b") -> list[Case]:
    letter = good[0]
    return [
        Case(resource, path, "minLength", letter, ""),
        Case(resource, path, "maxLength", letter * length, letter * (length + 1)),
        Case(resource, path, "pattern", good, bad),
    ]


def _required(resource: Resource, path: str, value: Any) -> Case:
    return Case(resource, path, "required", value, ABSENT)


def _word(resource: Resource, path: str, length: int = 256) -> Case:
    return Case(resource, path, "maxLength", "a" * length, "a" * (length + 1))


CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "Solved",
    "message": "",
    "lastTransitionTime": "2026-01-02T03:04:05Z",
}
_NOON = "2026-01-02T12:00:00Z"


def _conditions(resource: Resource) -> list[Case]:
    path = "status.conditions"
    first = f"{path}[0]"
    many = [CONDITION | {"type": f"Type{number}"} for number in range(17)]
    return [
        Case(resource, path, "maxItems", many[:16], many),
        Case(resource, path, "x-kubernetes-list-type", many[:2], [CONDITION, CONDITION]),
        *[_required(resource, f"{first}.{name}", value) for name, value in CONDITION.items()],
        *_name(resource, f"{first}.type", length=316, good="Ready2", bad="not-ready"),
        *_name(resource, f"{first}.reason", length=1024, good="Solved", bad="not solved"),
        Case(resource, f"{first}.status", "enum", "Unknown", "Maybe"),
        _word(resource, f"{first}.message", 32768),
        Case(resource, f"{first}.lastTransitionTime", "format", "2026-01-02T03:04:05.678+01:00", "2026-01-02 03:04"),
        *_bounds(resource, f"{first}.observedGeneration", 0, MAX_COUNT),
        *_bounds(resource, "status.observedGeneration", -1, MAX_COUNT),
    ]


_CLUSTER = "spec.dataFrom.cluster"


def _label_selector(path: str) -> list[Case]:
    labels = {f"key-{number}": "a" for number in range(65)}
    requirement = {"key": "a", "operator": "Exists"}
    first = f"{path}.matchExpressions[0]"
    return [
        Case(REQUEST, f"{path}.matchLabels", "maxProperties", dict(list(labels.items())[:64]), labels),
        Case(REQUEST, f"{path}.matchLabels.key", "maxLength", "a" * 63, "a" * 64),
        Case(REQUEST, f"{path}.matchExpressions", "maxItems", [requirement] * 64, [requirement] * 65),
        _required(REQUEST, f"{first}.key", "a"),
        Case(REQUEST, f"{first}.key", "minLength", "a", ""),
        Case(REQUEST, f"{first}.key", "maxLength", "a" * 317, "a" * 318),
        _required(REQUEST, f"{first}.operator", "In"),
        Case(REQUEST, f"{first}.operator", "enum", "NotIn", "Gt"),
        Case(REQUEST, f"{first}.values", "maxItems", ["a"] * 256, ["a"] * 257),
        Case(REQUEST, f"{first}.values[0]", "maxLength", "a" * 63, "a" * 64),
    ]


def _cluster() -> list[Case]:
    pods, workload = f"{_CLUSTER}.pods", f"{_CLUSTER}.workload"
    selectors = (f"{_CLUSTER}.nodes.labelSelector", f"{pods}.labelSelector", f"{pods}.namespaceSelector")
    return [
        *[case for path in selectors for case in _label_selector(path)],
        Case(REQUEST, f"{_CLUSTER}.nodes.fieldSelector", "maxLength", "a" * 1024, "a" * 1025),
        Case(REQUEST, f"{pods}.fieldSelector", "maxLength", "a" * 1024, "a" * 1025),
        Case(REQUEST, f"{pods}.namespaces", "maxItems", ["a"] * 1000, ["a"] * 1001),
        *_name(REQUEST, f"{pods}.namespaces[0]", length=63, good="1-a", bad="a.b"),
        _required(REQUEST, f"{workload}.apiVersion", "apps/v1"),
        Case(REQUEST, f"{workload}.apiVersion", "enum", "apps/v1", "apps/v2"),
        _required(REQUEST, f"{workload}.kind", "Deployment"),
        Case(REQUEST, f"{workload}.kind", "enum", "StatefulSet", "DaemonSet"),
        _required(REQUEST, f"{workload}.name", "a"),
        *_name(REQUEST, f"{workload}.name", good="a.b-c.d", bad="A"),
        *_bounds(REQUEST, f"{workload}.replicas", 0, 100_000),
    ]


def _history() -> list[Case]:
    points, first = "status.historyPoints", "status.historyPoints[0]"
    reference = "spec.workloadRef"
    return [
        Case(REQUEST, f"{reference}.apiVersion", "enum", "batch/v1", "batch/v2"),
        _required(REQUEST, f"{reference}.kind", "Job"),
        Case(REQUEST, f"{reference}.kind", "enum", "Job", "ReplicaSet"),
        _required(REQUEST, f"{reference}.name", "a"),
        *_name(REQUEST, f"{reference}.name", good="a.b-c.d", bad="A"),
        *_label_selector("spec.workloadSelector"),
        Case(REQUEST, points, "maxItems", [HISTORY_POINT] * 16, [HISTORY_POINT] * 17),
        *[_required(REQUEST, f"{first}.{name}", HISTORY_POINT[name]) for name in HISTORY_POINT if name != "workload"],
        *[
            case
            for name in ("generation", "run", "stamp", "timestamp", "durationMs")
            for case in _bounds(REQUEST, f"{first}.{name}", 0, MAX_COUNT)
        ],
        *[_word(REQUEST, f"{first}.{name}") for name in ("type", "reason", "algorithm")],
        *_bounds(REQUEST, f"{first}.score", 0, 1),
        _required(REQUEST, f"{first}.workload.kind", "Job"),
        Case(REQUEST, f"{first}.workload.kind", "enum", "Pod", "ReplicaSet"),
        _required(REQUEST, f"{first}.workload.name", "a"),
        *_name(REQUEST, f"{first}.workload.name", good="a.b-c.d", bad="A"),
    ]


HISTORY_POINT: dict[str, Any] = {
    "generation": 1,
    "run": 1,
    "stamp": 5,
    "timestamp": 4,
    "type": "resource",
    "success": True,
    "reason": "Solved",
    "durationMs": 1,
    "workload": {"kind": "Job", "name": "a"},
}
_MEASURES = ("objective", "lowerBound", "gap")

CASES = [
    _required(REQUEST, "spec", {"type": "resource", "data": {}}),
    _required(REQUEST, "spec.type", "resource"),
    Case(REQUEST, "spec.type", "enum", "ml-driven", "magic"),
    _required(REQUEST, "spec.dataFrom.configMapKeyRef.name", "a"),
    _required(REQUEST, "spec.dataFrom.configMapKeyRef.key", "a"),
    *_name(REQUEST, "spec.dataFrom.configMapKeyRef.name", good="a.b-c.d", bad="A"),
    *_name(REQUEST, "spec.dataFrom.configMapKeyRef.key", good="Data_1-a.json", bad="a/b"),
    *_cluster(),
    *_history(),
    *_name(REQUEST, "spec.plugin", good="none", bad="my plugin"),
    *_bounds(REQUEST, "spec.searchSeconds", 0, 3600),
    *_bounds(REQUEST, "spec.timeoutSeconds", 1, 3600),
    *_bounds(REQUEST, "spec.intervalSeconds", 10, YEAR_SECONDS),
    *_bounds(REQUEST, "spec.ttlSecondsAfterFinished", 0, YEAR_SECONDS),
    *_conditions(REQUEST),
    *_bounds(REQUEST, "status.run", 0, MAX_COUNT),
    Case(REQUEST, "status.startTime", "format", _NOON, "noon"),
    Case(REQUEST, "status.completionTime", "format", _NOON, "noon"),
    _required(REQUEST, "status.resultRef.name", "a"),
    _required(REQUEST, "status.resultRef.key", "a"),
    *_name(REQUEST, "status.resultRef.name", good="a.b-c.d", bad="A"),
    *_name(REQUEST, "status.resultRef.key", good="result.json.gz", bad="a/b"),
    *_bounds(REQUEST, "status.resultRef.sizeBytes", 0, MAX_COUNT),
    Case(REQUEST, "status.resultRef.compression", "enum", "gzip", "zip"),
    _required(REQUEST, "status.metrics.durationMs", 5),
    *_bounds(REQUEST, "status.metrics.durationMs", 0, MAX_COUNT),
    *_bounds(REQUEST, "status.metrics.score", 0, 1),
    *[_word(REQUEST, f"status.solvedBy.{name}") for name in ("name", "algorithm", "version", "modelId")],
    *_name(REQUEST, "status.solvedBy.plugin", good="a.b", bad="A"),
    Case(REQUEST, "status.solvedBy.role", "enum", "advice", "boss"),
    *_bounds(REQUEST, "status.solvedBy.confidence", 0, 1),
    *_bounds(REQUEST, "status.solvedBy.claimedConfidence", 0, 1),
    _word(REQUEST, "status.solvedBy.fallbackReason", 1024),
    _word(REQUEST, "status.inputDigest"),
    *[case for name in _MEASURES for case in _bounds(REQUEST, f"status.progress.{name}", 0, MAX_COUNT)],
    _required(PLUGIN, "spec", {"source": {"entryPoint": "a:B"}}),
    *_bounds(PLUGIN, "spec.priority", -1_000_000, 1_000_000),
    Case(PLUGIN, "spec.supportedTypes", "minItems", ["resource"], []),
    Case(
        PLUGIN,
        "spec.supportedTypes",
        "maxItems",
        ["resource", "scheduling", "performance", "ml-driven"],
        ["resource"] * 5,
    ),
    Case(PLUGIN, "spec.supportedTypes", "x-kubernetes-list-type", ["resource", "scheduling"], ["resource", "resource"]),
    Case(PLUGIN, "spec.supportedTypes[0]", "enum", "performance", "magic"),
    _required(PLUGIN, "spec.source", {"entryPoint": "a:B"}),
    Case(PLUGIN, "spec.source.entryPoint", "minLength", "a:B", ":B"),
    Case(PLUGIN, "spec.source.entryPoint", "maxLength", "a:" + "B" * 510, "a:" + "B" * 511),
    Case(PLUGIN, "spec.source.entryPoint", "pattern", "my_package.module2:Class", "my_package.module.Class"),
    _required(PLUGIN, "spec.source.service.name", "a"),
    _required(PLUGIN, "spec.source.service.namespace", "a"),
    *_name(PLUGIN, "spec.source.service.name", length=63, bad="1a"),
    *_name(PLUGIN, "spec.source.service.namespace", length=63, good="1-a", bad="a.b"),
    *_bounds(PLUGIN, "spec.source.service.port", 1, 65535),
    *_bounds(PLUGIN, "spec.limits.timeoutSeconds", 1, 3600),
    Case(PLUGIN, "spec.limits.memory", "maxLength", "1Mi".zfill(64), "1Mi".zfill(65)),
    *_bounds(PLUGIN, "spec.training.minSamples", 1, 1_000_000),
    *_bounds(PLUGIN, "spec.training.retrain.afterSamples", 1, 1_000_000),
    *_bounds(PLUGIN, "spec.training.retrain.intervalSeconds", 60, YEAR_SECONDS),
    *_bounds(PLUGIN, "spec.training.timeoutSeconds", 1, 86_400),
    Case(PLUGIN, "spec.training.gate", "enum", "none", "open"),
    Case(PLUGIN, "spec.training.tolerance", "pattern", "1.5", "0.9"),
    Case(PLUGIN, "spec.training.tolerance", "maxLength", "100.125", "1.1250000"),
    Case(PLUGIN, "spec.training.pinnedModel", "pattern", "sha256:" + "a" * 12, "sha256:" + "a" * 11),
    Case(PLUGIN, "spec.training.pinnedModel", "maxLength", "sha256:" + "a" * 64, "sha256:" + "a" * 65),
    Case(PLUGIN, "spec.mode", "enum", "shadow", "passive"),
    *_conditions(PLUGIN),
    _word(PLUGIN, "status.version"),
    _word(PLUGIN, "status.description", 1024),
    Case(PLUGIN, "status.types", "maxItems", ["resource"] * 16, ["resource"] * 17),
    _word(PLUGIN, "status.types[0]"),
    _required(PLUGIN, "status.candidate.id", "a"),
    _word(PLUGIN, "status.candidate.id"),
    _word(PLUGIN, "status.candidate.digest"),
    Case(PLUGIN, "status.candidate.trainedAt", "format", _NOON, "noon"),
    *_bounds(PLUGIN, "status.candidate.samples", 0, MAX_COUNT),
    *_bounds(PLUGIN, "status.candidate.outcomes", 0, MAX_COUNT),
    _word(PLUGIN, "status.candidate.message", 1024),
    _required(PLUGIN, "status.score.key", "a"),
    _word(PLUGIN, "status.score.key"),
    _required(PLUGIN, "status.score.outcomes", 5),
    *_bounds(PLUGIN, "status.score.outcomes", 0, MAX_COUNT),
    *_bounds(PLUGIN, "status.score.loss", 0, MAX_COUNT),
    *_bounds(PLUGIN, "status.score.baselineLoss", 0, MAX_COUNT),
    _required(PLUGIN, "status.model.id", "a"),
    _word(PLUGIN, "status.model.id"),
    _word(PLUGIN, "status.model.digest"),
    Case(PLUGIN, "status.model.trainedAt", "format", _NOON, "noon"),
    *_bounds(PLUGIN, "status.model.samples", 0, MAX_COUNT),
    Case(PLUGIN, "status.skill", "maxLength", "0." + "1" * 30, "0." + "1" * 31),
    Case(PLUGIN, "status.skill", "pattern", "-0.25", "good"),
    *_bounds(PLUGIN, "status.confidence", 0, 1),
    *_bounds(PLUGIN, "status.claimedConfidence", 0, 1),
    *[
        case
        for name in ("requests", "answers", "failures", "declined", "leftOut", "fallbacks")
        for case in _bounds(PLUGIN, f"status.counts.{name}", 0, MAX_COUNT)
    ],
    *_bounds(PLUGIN, "status.latency.p50Ms", 0, 2**31 - 1),
    *_bounds(PLUGIN, "status.latency.p99Ms", 0, 2**31 - 1),
    _word(PLUGIN, "status.lastError", 4096),
]
"""One case for each keyword of the schemas."""

_REF = {"configMapKeyRef": {"name": "a", "key": "b"}}
_LIVE: dict[str, Any] = {"cluster": {}}
_SCALED: dict[str, Any] = {"cluster": {"workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}}}

RULE_CASES = [
    RuleCase(
        REQUEST,
        "exactly-one-source-of-data",
        [
            {},
            {"spec.data": {}},
            {"spec.data": ABSENT, "spec.dataFrom": _REF},
            {"spec.data": ABSENT, "spec.dataFrom": _LIVE},
            {"spec.type": "scheduling", "spec.dataFrom": _LIVE},
        ],
        [{"spec.data": ABSENT}, {"spec.data": None}, {"spec.dataFrom": _REF}],
        "spec",
        "exactly one of data and dataFrom must be set, or data with the tasks beside dataFrom.cluster",
    ),
    RuleCase(
        REQUEST,
        "one-place-of-data-from",
        [{"spec.data": ABSENT, "spec.dataFrom": _REF}, {"spec.data": ABSENT, "spec.dataFrom": _LIVE}],
        [{"spec.data": ABSENT, "spec.dataFrom": _REF | _LIVE}],
        "spec.dataFrom",
        "exactly one of configMapKeyRef and cluster must be set",
    ),
    RuleCase(
        REQUEST,
        "cluster-is-for-two-types",
        [{"spec.data": ABSENT, "spec.dataFrom": _LIVE, "spec.type": name} for name in ("resource", "scheduling")],
        [{"spec.data": ABSENT, "spec.dataFrom": _LIVE, "spec.type": name} for name in ("performance", "ml-driven")],
        "spec.dataFrom",
        "dataFrom.cluster is for the types resource and scheduling",
    ),
    RuleCase(
        REQUEST,
        "what-is-placed-is-for-scheduling",
        [
            {"spec.dataFrom": _LIVE, "spec.type": "scheduling"},
            {"spec.data": ABSENT, "spec.dataFrom": _SCALED, "spec.type": "scheduling"},
        ],
        [{"spec.dataFrom": _LIVE}, {"spec.data": ABSENT, "spec.dataFrom": _SCALED}],
        "spec",
        "beside dataFrom.cluster, data and workload are for type scheduling: they say what is placed",
    ),
    RuleCase(
        REQUEST,
        "one-thing-is-placed",
        [{"spec.dataFrom": {"cluster": {"nodes": {}}}, "spec.type": "scheduling"}],
        [
            {"spec.dataFrom": {"cluster": {"pods": {}}}, "spec.type": "scheduling"},
            {"spec.dataFrom": _SCALED, "spec.type": "scheduling"},
        ],
        "spec.data",
        "data must not be set together with dataFrom.cluster.pods or workload: each of them says what is placed",
    ),
    RuleCase(
        REQUEST,
        "workload-or-pods",
        [{"spec.data": ABSENT, "spec.dataFrom": _SCALED, "spec.type": "scheduling"}],
        [
            {
                "spec.data": ABSENT,
                "spec.dataFrom": {"cluster": _SCALED["cluster"] | {"pods": {}}},
                "spec.type": "scheduling",
            }
        ],
        "spec.dataFrom.cluster.pods",
        "pods must not be set together with workload: the workload says which pods are placed",
    ),
    RuleCase(
        REQUEST,
        "api-version-of-the-kind",
        [
            {"spec.data": ABSENT, "spec.dataFrom": {"cluster": {"workload": workload}}, "spec.type": "scheduling"}
            for workload in (
                {"apiVersion": "batch/v1", "kind": "Job", "name": "a"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a"},
            )
        ],
        [
            {"spec.data": ABSENT, "spec.dataFrom": {"cluster": {"workload": workload}}, "spec.type": "scheduling"}
            for workload in (
                {"apiVersion": "apps/v1", "kind": "Job", "name": "a"},
                {"apiVersion": "batch/v1", "kind": "Deployment", "name": "a"},
            )
        ],
        "spec.dataFrom.cluster.workload.apiVersion",
        "apiVersion must be batch/v1 for a Job and apps/v1 for the other kinds",
    ),
    RuleCase(
        REQUEST,
        "workload-by-name-or-by-labels",
        [{"spec.workloadRef": {"kind": "Job", "name": "a"}}, {"spec.workloadSelector": {}}],
        [{"spec.workloadRef": {"kind": "Job", "name": "a"}, "spec.workloadSelector": {}}],
        "spec.workloadSelector",
        "workloadSelector must not be set together with workloadRef: each of them says what the answer is for",
    ),
    RuleCase(
        REQUEST,
        "api-version-of-the-workload",
        [
            {"spec.workloadRef": workload | {"name": "a"}}
            for workload in (
                {"kind": "Job"},
                {"apiVersion": "batch/v1", "kind": "CronJob"},
                {"apiVersion": "apps/v1", "kind": "DaemonSet"},
                {"apiVersion": "v1", "kind": "Pod"},
            )
        ],
        [
            {"spec.workloadRef": workload | {"name": "a"}}
            for workload in (
                {"apiVersion": "v1", "kind": "CronJob"},
                {"apiVersion": "batch/v1", "kind": "StatefulSet"},
                {"apiVersion": "apps/v1", "kind": "Pod"},
            )
        ],
        "spec.workloadRef.apiVersion",
        "apiVersion must be batch/v1 for Job and CronJob, v1 for Pod and apps/v1 for the other kinds",
    ),
    RuleCase(
        REQUEST,
        "search-within-timeout",
        [
            {"spec.searchSeconds": 5, "spec.timeoutSeconds": 5},
            {"spec.searchSeconds": 30, "spec.timeoutSeconds": ABSENT},
        ],
        [
            {"spec.searchSeconds": 6, "spec.timeoutSeconds": 5},
            {"spec.searchSeconds": 31, "spec.timeoutSeconds": ABSENT},
        ],
        "spec.searchSeconds",
        "searchSeconds must not be above timeoutSeconds, which is 30 unless set",
    ),
    RuleCase(
        REQUEST,
        "no-ttl-with-interval",
        [{"spec.intervalSeconds": 10}, {"spec.ttlSecondsAfterFinished": 0}],
        [{"spec.intervalSeconds": 10, "spec.ttlSecondsAfterFinished": 0}],
        "spec.ttlSecondsAfterFinished",
        "ttlSecondsAfterFinished must not be set together with intervalSeconds: a standing request never finishes",
    ),
    RuleCase(
        PLUGIN,
        "exactly-one-source",
        [{}, {"spec.source": {"service": {"name": "a", "namespace": "b"}}}],
        [{"spec.source": {}}, {"spec.source.service": {"name": "a", "namespace": "b"}}],
        "spec.source",
        "exactly one of entryPoint and service must be set",
    ),
    RuleCase(
        PLUGIN,
        "memory-is-a-quantity",
        [{"spec.limits.memory": memory} for memory in ("512Mi", 536870912, "1e9", "+1.5Gi", "100k", "1", "1023Pi")],
        [
            {"spec.limits.memory": memory}
            for memory in ("0", 0, -1, "-1Mi", "512 Mi", "lots", "", "m", "1Ei", "9E", "1e999999999", "1_0", "1Mi\n")
        ],
        "spec.limits.memory",
        "must be a Kubernetes quantity above 0 and below 1Ei, such as 512Mi",
    ),
    RuleCase(
        PLUGIN,
        "reserved-names",
        [{"metadata.name": "workload-data-2"}, {"metadata.name": "nonesuch"}],
        [{"metadata.name": "workload-data"}, {"metadata.name": "none"}],
        "",
        "metadata.name must not be workload-data or none: both are reserved",
    ),
]
"""One case for each CEL rule."""


def base(resource: Resource, path: str = "") -> dict[str, Any]:
    """Return an accepted object that has the parents of ``path``."""
    if resource is REQUEST:
        # The hard limit is at its maximum, so that searchSeconds can be.
        spec: dict[str, Any] = {"type": "resource", "timeoutSeconds": 3600}
        if path.startswith(_CLUSTER):
            return _live_request(spec, path)
        spec |= {"dataFrom": copy.deepcopy(_REF)} if path.startswith("spec.dataFrom") else {"data": {"items": []}}
        if path.startswith("spec.workloadRef."):
            spec |= {"workloadRef": {"kind": "Job", "name": "a"}}
        if path.startswith("spec.workloadSelector."):
            spec |= {
                "workloadSelector": {
                    "matchLabels": {},
                    "matchExpressions": [{"key": "a", "operator": "In", "values": ["a"]}],
                }
            }
    else:
        by_service = {"service": {"name": "a", "namespace": "b", "port": 8080}}
        by_class = {"entryPoint": "package.module:Class"}
        spec = {
            "source": by_service if path.startswith("spec.source.service") else by_class,
            "supportedTypes": ["resource"],
            "limits": {"timeoutSeconds": 5, "memory": "1Gi"},
            "training": {"minSamples": 20, "retrain": {"onDrift": False}},
        }
    return {
        "apiVersion": "engineops.dev/v1alpha1",
        "kind": resource.kind,
        "metadata": {"name": "case"},
        "spec": spec,
    }


def _live_request(spec: dict[str, Any], path: str) -> dict[str, Any]:
    selector = {"matchLabels": {}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["a"]}]}
    cluster: dict[str, Any] = {"nodes": {"labelSelector": selector}}
    if path.startswith(f"{_CLUSTER}.workload"):
        cluster |= {"workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}}
    else:
        cluster |= {"pods": {"labelSelector": selector, "namespaceSelector": selector, "namespaces": ["a"]}}
    spec |= {"type": "scheduling", "dataFrom": {"cluster": copy.deepcopy(cluster)}}
    return {
        "apiVersion": "engineops.dev/v1alpha1",
        "kind": REQUEST.kind,
        "metadata": {"name": "case"},
        "spec": spec,
    }


def base_status(resource: Resource) -> dict[str, Any]:
    """Return an accepted status with every field that has fields of its own."""
    status: dict[str, Any] = {"observedGeneration": 1, "conditions": [dict(CONDITION)]}
    if resource is REQUEST:
        status |= {
            "result": {"nodes": None},
            "resultRef": {"name": "a", "key": "b"},
            "metrics": {"durationMs": 1},
            "solvedBy": {"name": "a"},
            "progress": {"objective": 1.5},
            "historyPoints": [copy.deepcopy(HISTORY_POINT)],
        }
    else:
        status |= {
            "types": ["resource"],
            "configSchema": {"type": "object"},
            "model": {"id": "a"},
            "candidate": {"id": "a"},
            "score": {"key": "success_rate", "outcomes": 1},
            "counts": {"requests": 1},
            "latency": {"p50Ms": 1},
        }
    return status


def change(target: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy with the values at these paths, such as ``status.conditions[0].type``, replaced."""
    changed = copy.deepcopy(target)
    for path, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", path)]
        node: Any = changed
        for part in parents:
            node = node[part]
        if value is ABSENT:
            node.pop(last, None)
        else:
            node[last] = value
    return changed


def walk(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every node of a structural schema below its root, with its path; list entries have index 0."""
    for name, child in schema.get("properties", {}).items():
        child_path = f"{path}.{name}".removeprefix(".")
        yield child_path, child
        yield from walk(child, child_path)
    if "additionalProperties" in schema:
        yield f"{path}.key", schema["additionalProperties"]
    if "items" in schema:
        yield f"{path}[0]", schema["items"]
        yield from walk(schema["items"], f"{path}[0]")
