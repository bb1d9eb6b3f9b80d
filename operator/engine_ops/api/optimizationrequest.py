"""OptimizationRequest: a question, and the answer in its status."""

from __future__ import annotations

import enum
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from engine_ops.api.base import API_VERSION, ResourceModel
from engine_ops.api.cluster_source import ClusterSource
from engine_ops.api.condition import Condition, Conditions
from engine_ops.api.fields import (
    INTEGRAL,
    MAX_COUNT,
    YEAR_SECONDS,
    ConfigMapKey,
    Count,
    Flag,
    FreeForm,
    Measure,
    ObjectName,
    Share,
    Timestamp,
    Word,
)
from engine_ops.api.history_point import HistoryPoints
from engine_ops.api.rules import Rule, RuledModel
from engine_ops.api.selectors import LabelSelector
from engine_ops.api.workload_ref import WorkloadRef

KIND: Final = "OptimizationRequest"
PLURAL: Final = "optimizationrequests"
NO_PLUGIN: Final = "none"
"""The value of ``spec.plugin`` that keeps every plugin out."""

__all__ = [
    "KIND",
    "NO_PLUGIN",
    "PLURAL",
    "Condition",
    "ConfigMapKeyRef",
    "DataFrom",
    "Metrics",
    "OptimizationRequest",
    "OptimizationRequestSpec",
    "OptimizationRequestStatus",
    "Progress",
    "RequestType",
    "ResultRef",
    "SolvedBy",
]


class RequestType(enum.StrEnum):
    """What kind of answer is asked for."""

    RESOURCE = "resource"
    SCHEDULING = "scheduling"
    PERFORMANCE = "performance"
    ML_DRIVEN = "ml-driven"


class ConfigMapKeyRef(ResourceModel):
    """One key of a ConfigMap in the request's own namespace."""

    name: ObjectName
    """The name of the ConfigMap."""
    key: ConfigMapKey
    """The key in its data or binaryData; the value is JSON or YAML."""


class DataFrom(RuledModel):
    """Where the data is read from when it is not inline."""

    config_map_key_ref: ConfigMapKeyRef | None = None
    """A key of a ConfigMap in the request's own namespace that holds the data as JSON or YAML. The request waits
    with reason DataNotFound until it is there."""
    cluster: ClusterSource | None = None
    """The live cluster, for the types scheduling (where would pods go) and resource (how many nodes would do)."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.configMapKeyRef) != has(self.cluster)",
            holds=lambda source: (source.config_map_key_ref is None) != (source.cluster is None),
            message="exactly one of configMapKeyRef and cluster must be set",
        ),
    )


class OptimizationRequestSpec(RuledModel):
    """The question."""

    type: RequestType
    """What kind of answer is asked for: resource packs items on as few or as cheap nodes as possible; scheduling
    chooses nodes for tasks; performance recommends requests and limits from samples; ml-driven asks plugins."""
    data: FreeForm | None = None
    """The problem, inline, in the shape that type asks for. Either this or dataFrom; beside dataFrom.cluster it holds
    tasks to place on the live nodes. The operator checks it and names
    the path of every fault in the condition Stalled. Above 200 KiB use dataFrom or kubectl apply --server-side."""
    data_from: DataFrom | None = None
    """Where the problem is read from."""
    constraints: FreeForm | None = None
    """What the answer must keep to, in the shape that type asks for. The operator checks it as it checks data."""
    plugin: ObjectName | None = None
    """The name of the one OptimizerPlugin to ask, or none to ask no plugin. Without it, the enabled plugin of highest
    priority that can handle the request is asked."""
    workload_ref: WorkloadRef | None = None
    """The workload in the request's own namespace that the answer is for. What becomes of it (how long it takes,
    whether it succeeds, what it uses) is joined to the history. Not together with workloadSelector."""
    workload_selector: LabelSelector | None = None
    """The same for pods in the request's own namespace, by label. Not together with workloadRef."""
    search_seconds: Annotated[int, Field(strict=True, ge=0, le=3600), INTEGRAL] = 1
    """For how long a better answer is searched for after the first one; 0 takes the first answer. The search ends
    sooner when the answer is proven to be the best. At most timeoutSeconds and 3600; 1 unless set."""
    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=3600), INTEGRAL] = 30
    """The hard limit: after it the worker is killed and the best answer so far is served. 1 to 3600; 30 unless
    set."""
    suspend: Flag = False
    """While true, nothing is solved; the last answer stays."""
    interval_seconds: Annotated[int, Field(strict=True, ge=10, le=YEAR_SECONDS), INTEGRAL] | None = None
    """Makes this a standing request: it is solved again so many seconds after the last answer. At least 10. Not
    together with ttlSecondsAfterFinished."""
    ttl_seconds_after_finished: Annotated[int, Field(strict=True, ge=0, le=YEAR_SECONDS), INTEGRAL] | None = None
    """The request is deleted so many seconds after it was answered or has Stalled. Not together with intervalSeconds,
    nor for objects that a GitOps pipeline manages: it would create them again."""

    @property
    def config_map_key_ref(self) -> ConfigMapKeyRef | None:
        """The ConfigMap's key that holds the data, if one does."""
        return self.data_from.config_map_key_ref if self.data_from is not None else None

    @property
    def cluster(self) -> ClusterSource | None:
        """The part of the live cluster that is the source, if it is."""
        return self.data_from.cluster if self.data_from is not None else None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.data) != (has(self.dataFrom) && has(self.dataFrom.configMapKeyRef))"
            " || (!has(self.data) && has(self.dataFrom) && has(self.dataFrom.cluster))",
            holds=lambda spec: (
                (spec.data is None) != (spec.data_from is None)
                or (spec.data_from is not None and spec.data_from.cluster is not None)
            ),
            message="exactly one of data and dataFrom must be set, or data with the tasks beside dataFrom.cluster",
        ),
        Rule(
            cel="!has(self.dataFrom) || !has(self.dataFrom.cluster) || self.type in ['resource', 'scheduling']",
            holds=lambda spec: spec.cluster is None or spec.type in (RequestType.RESOURCE, RequestType.SCHEDULING),
            message="dataFrom.cluster is for the types resource and scheduling",
            field="dataFrom",
        ),
        Rule(
            cel="!has(self.dataFrom) || !has(self.dataFrom.cluster) || self.type == 'scheduling'"
            " || (!has(self.data) && !has(self.dataFrom.cluster.workload))",
            holds=lambda spec: (
                spec.cluster is None
                or spec.type == RequestType.SCHEDULING
                or (spec.data is None and spec.cluster.workload is None)
            ),
            message="beside dataFrom.cluster, data and workload are for type scheduling: they say what is placed",
        ),
        Rule(
            cel="!has(self.data) || !has(self.dataFrom) || !has(self.dataFrom.cluster)"
            " || (!has(self.dataFrom.cluster.workload) && !has(self.dataFrom.cluster.pods))",
            holds=lambda spec: (
                spec.data is None
                or spec.cluster is None
                or (spec.cluster.workload is None and spec.cluster.pods is None)
            ),
            message="data must not be set together with dataFrom.cluster.pods or workload: "
            "each of them says what is placed",
            field="data",
            reason="FieldValueForbidden",
        ),
        Rule(
            cel="!has(self.workloadRef) || !has(self.workloadSelector)",
            holds=lambda spec: spec.workload_ref is None or spec.workload_selector is None,
            message="workloadSelector must not be set together with workloadRef: each of them says what the answer "
            "is for",
            field="workloadSelector",
            reason="FieldValueForbidden",
        ),
        Rule(
            cel="self.searchSeconds <= self.timeoutSeconds",
            holds=lambda spec: spec.search_seconds <= spec.timeout_seconds,
            message="searchSeconds must not be above timeoutSeconds, which is 30 unless set",
            field="searchSeconds",
        ),
        Rule(
            cel="!has(self.intervalSeconds) || !has(self.ttlSecondsAfterFinished)",
            holds=lambda spec: spec.interval_seconds is None or spec.ttl_seconds_after_finished is None,
            message="ttlSecondsAfterFinished must not be set together with intervalSeconds: "
            "a standing request never finishes",
            field="ttlSecondsAfterFinished",
            reason="FieldValueForbidden",
        ),
    )


class ResultRef(ResourceModel):
    """Where a result is kept that is too large for status."""

    name: ObjectName
    """The name of the ConfigMap, in the request's namespace and owned by the request."""
    key: ConfigMapKey
    """The key in its binaryData."""
    size_bytes: Count | None = None
    """The size of the result as JSON, in bytes, before compression."""
    compression: Literal["gzip"] = "gzip"
    """How the JSON is compressed."""


class Metrics(ResourceModel):
    """How long the answer took and how good it is."""

    duration_ms: Count
    """How long the answer took, in whole milliseconds of wall-clock time."""
    score: Share | None = None
    """How good the answer is, from 0 to 1, in the same way for every algorithm of a type. Absent where it is not
    defined."""


class SolvedBy(ResourceModel):
    """What made the answer. ``name`` is filled in from the plugin, else from the algorithm, where it is not given."""

    name: Word | None = None
    """The plugin if one made the answer, else the algorithm."""
    plugin: ObjectName | None = None
    """The OptimizerPlugin that made the answer or gave the advice for it."""
    role: Literal["answer", "advice", "prediction"] | None = None
    """What the plugin gave: the answer, advice that the built-in algorithm followed, or a prediction that nothing can
    check."""
    algorithm: Word | None = None
    """The built-in algorithm that made the answer."""
    version: Word | None = None
    """The version of the plugin or of the operator."""
    model_id: Word | None = None
    """The identifier of the plugin's model at that time."""
    confidence: Share | None = None
    """The share of the model's last 100 scored predictions that were close enough. Absent below 30."""
    claimed_confidence: Share | None = None
    """The confidence that the plugin itself claims."""
    fallback_reason: Annotated[str, Field(max_length=1024)] | None = None
    """Why plugins that were asked did not answer, or not alone."""

    @model_validator(mode="before")
    @classmethod
    def _fill_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("name") is None:
            name = value.get("plugin") or value.get("algorithm")
            if name is not None:
                return {**value, "name": name}
        return value


class Progress(ResourceModel):
    """The best answer so far of a search that is going on, in the unit of its objective: nodes, or money."""

    objective: Measure | None = None
    """The value of the best answer so far; smaller is better."""
    lower_bound: Measure | None = None
    """No answer can be better than this."""
    gap: Measure | None = None
    """How far the answer may be from the best possible: (objective - lowerBound) / lowerBound."""


class OptimizationRequestStatus(ResourceModel):
    """The answer, or what it waits for."""

    observed_generation: Annotated[int, Field(strict=True, ge=-1, le=MAX_COUNT), INTEGRAL] = -1
    """The metadata.generation that this status answers; -1 before the first answer."""
    run: Count | None = None
    """How many times a standing request has been solved for this generation."""
    conditions: Conditions | None = None
    """Ready says whether there is an answer; Reconciling that it is being worked on or waited for; Stalled that the
    spec must change first."""
    start_time: Timestamp | None = None
    """When the operator began with this answer."""
    completion_time: Timestamp | None = None
    """When the answer was complete."""
    result: FreeForm | None = None
    """The answer in the shape that type has; a summary of it where resultRef is set."""
    result_ref: ResultRef | None = None
    """Where the whole result is, when it is too large for status."""
    metrics: Metrics | None = None
    """How long the answer took and how good it is."""
    solved_by: SolvedBy | None = None
    """What made the answer."""
    input_digest: Word | None = None
    """A digest of what mattered in the live cluster when the answer was made. A standing request is solved again only
    when it has changed."""
    history_points: HistoryPoints | None = None
    """What the history records: the last finished solve, and earlier ones that are not in the history yet."""
    progress: Progress | None = None
    """The best answer so far, while a long search is going on."""


class OptimizationRequest(ResourceModel):
    """A question about resources, placement or performance, and its answer in status, with proof of its quality."""

    api_version: Literal["engineops.dev/v1alpha1"] = API_VERSION
    kind: Literal["OptimizationRequest"] = KIND
    metadata: dict[str, Any]
    spec: OptimizationRequestSpec
    """The question. A change of it is answered anew."""
    status: OptimizationRequestStatus | None = None
    """The answer, written by the operator."""
