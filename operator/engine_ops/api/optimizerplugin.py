"""OptimizerPlugin: an optimiser that is asked before the built-in algorithms."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from engine_ops.api.base import API_VERSION, ResourceModel
from engine_ops.api.condition import Condition, Conditions
from engine_ops.api.fields import (
    ATOMIC_LIST,
    EMPTY_DEFAULT,
    INT32_MAX,
    INTEGRAL,
    MAX_COUNT,
    YEAR_SECONDS,
    Count,
    Flag,
    FreeForm,
    Measure,
    NamespaceName,
    PositiveQuantity,
    Share,
    Timestamp,
    Word,
)
from engine_ops.api.optimizationrequest import NO_PLUGIN, RequestType
from engine_ops.api.quantity import parse_quantity
from engine_ops.api.rules import Rule, RuledModel

KIND: Final = "OptimizerPlugin"
PLURAL: Final = "optimizerplugins"
RESERVED_NAMES: Final = ("workload-data", NO_PLUGIN)
"""`workload-data` names the history in the REST API, `none` means no plugin in a request."""

__all__ = [
    "KIND",
    "PLURAL",
    "RESERVED_NAMES",
    "Condition",
    "OptimizerPlugin",
    "OptimizerPluginSpec",
    "OptimizerPluginStatus",
    "PluginCandidate",
    "PluginCounts",
    "PluginLatency",
    "PluginLimits",
    "PluginMode",
    "PluginModel",
    "PluginScore",
    "PluginService",
    "PluginSource",
    "PluginTraining",
    "RetrainPolicy",
    "TrainingGate",
]

_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
ENTRY_POINT: Final = rf"^{_IDENTIFIER}(\.{_IDENTIFIER})*:{_IDENTIFIER}$"
"""``package.module:Class``."""


class PluginService(ResourceModel):
    """A plugin that runs in its own Pods and is asked over HTTP."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
    """The name of the Service."""
    namespace: NamespaceName
    """The namespace of the Service."""
    port: Annotated[int, Field(strict=True, ge=1, le=65535), INTEGRAL] = 80
    """The port of the Service."""


class PluginSource(RuledModel):
    """Where the plugin's code is."""

    entry_point: Annotated[str, Field(min_length=3, max_length=512, pattern=ENTRY_POINT)] | None = None
    """A class in the operator's image, written package.module:Class. Either this or service."""
    service: PluginService | None = None
    """A Service that answers the plugin protocol over HTTP. Either this or entryPoint."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.entryPoint) != has(self.service)",
            holds=lambda source: (source.entry_point is None) != (source.service is None),
            message="exactly one of entryPoint and service must be set",
        ),
    )


class PluginLimits(ResourceModel):
    """What one worker of the plugin may use."""

    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=3600), INTEGRAL] = 10
    """How long one answer may take; the worker is killed after it. 1 to 3600; 10 unless set."""
    memory: PositiveQuantity = "512Mi"
    """How much resident memory the worker may use, as a Kubernetes quantity such as 512Mi; a bare number is bytes. The
    worker is killed above it. 512Mi unless set."""

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes."""
        return int(parse_quantity(self.memory))


class RetrainPolicy(ResourceModel):
    """When a new model is trained beside the current one. Without any of these, only the first one is."""

    after_samples: Annotated[int, Field(strict=True, ge=1, le=1_000_000), INTEGRAL] | None = None
    """After so many new outcomes, but not before four times as long has passed since the last training as it took."""
    interval_seconds: Annotated[int, Field(strict=True, ge=60, le=YEAR_SECONDS), INTEGRAL] | None = None
    """So many seconds after the last training."""
    on_drift: Flag = True
    """When the loss of the last predictions has grown since the model was promoted, and minSamples outcomes have come
    since the last training. Also when no model is served because the newest has not proved itself: once as many
    outcomes have come since its training as it was trained on, and at least minSamples."""


class TrainingGate(StrEnum):
    """What a newly trained model must pass before it is served."""

    PROVEN = "proven"
    NONE = "none"


class PluginMode(StrEnum):
    """Whether what the plugin says is served."""

    ACTIVE = "active"
    SHADOW = "shadow"


DIGEST: Final = r"^sha256:[0-9a-f]{12,64}$"
"""Of a trained model: ``sha256:`` and its first 12 hexadecimal digits or more."""


TOLERANCE: Final = r"^[1-9][0-9]{0,2}(\.[0-9]{1,3})?$"
"""A factor of 1 or more."""


class PluginTraining(ResourceModel):
    """How the plugin learns from the history."""

    min_samples: Annotated[int, Field(strict=True, ge=1, le=1_000_000), INTEGRAL] = 10
    """How many points of history the first training needs; 10 unless set."""
    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=86_400), INTEGRAL] = 120
    """How long one training may take; it is ended after that. 1 to 86400; 120 unless set."""
    retrain: RetrainPolicy = Field(default_factory=RetrainPolicy, json_schema_extra=EMPTY_DEFAULT)
    """When a new model is trained."""
    gate: TrainingGate | None = None
    """What a newly trained model must pass before it is served. proven: it is asked in shadow until it was better than
    the model before it and than the median of the last five, on at least 30 later outcomes. none: it is served at once.
    Without it, proven for types that have a built-in answer and none for ml-driven."""
    tolerance: Annotated[str, Field(max_length=7, pattern=TOLERANCE)] = "1.25"
    """Within which factor of the outcome a prediction counts as right, as a string; "1.25" unless set. The confidence
    is the share of predictions that do."""
    pinned_model: Annotated[str, Field(pattern=DIGEST, max_length=71)] | None = None
    """The digest of an earlier model that is to be served, as status.model.digest had it: the beginning of one of the
    last three. While it is none of these, the others are served as ever. Nothing is trained while it is set."""

    @property
    def tolerance_factor(self) -> float:
        """`tolerance` as a number."""
        return float(self.tolerance)


class OptimizerPluginSpec(ResourceModel):
    """The plugin and how it may be used."""

    enabled: Flag = True
    """Whether the plugin is asked. Disabling it keeps its model."""
    priority: Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000), INTEGRAL] = 0
    """Of all plugins that can handle a request, the one of highest priority is asked; 0 unless set."""
    supported_types: (
        Annotated[
            list[RequestType],
            Field(min_length=1, max_length=len(RequestType), json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = None
    """The types of request that the plugin is asked for. Without it, the plugin itself says which."""
    source: PluginSource
    """Where the plugin's code is: exactly one of entryPoint and service."""
    config: FreeForm | None = None
    """The plugin's own configuration, checked by the plugin's own schema."""
    mode: PluginMode = PluginMode.ACTIVE
    """Whether what the plugin says is served: active, or shadow, where it is asked and scored only. active unless
    set."""
    limits: PluginLimits = Field(default_factory=PluginLimits, json_schema_extra=EMPTY_DEFAULT)
    """What one worker of the plugin may use."""
    training: PluginTraining = Field(default_factory=PluginTraining, json_schema_extra=EMPTY_DEFAULT)
    """How the plugin learns from the history."""


class PluginModel(ResourceModel):
    """A trained model."""

    id: Word
    """The model's identifier."""
    trained_at: Timestamp | None = None
    """When it was trained."""
    samples: Count | None = None
    """How many points of history it was trained on."""
    digest: Word | None = None
    """Of the trained model: sha256: and the first 12 digits, as training.pinnedModel takes it."""


class PluginCandidate(PluginModel):
    """A newer model, in shadow: it is asked and scored, and not served yet."""

    outcomes: Count | None = None
    """How many of its predictions have an outcome."""
    message: Annotated[str, Field(max_length=1024)] | None = None
    """How it does beside the model that is served and beside the median of the last five."""


class PluginScore(ResourceModel):
    """How well the model predicts, over the outcomes since it was trained."""

    key: Word
    """What is predicted, such as expected_duration."""
    outcomes: Count
    """How many predictions were scored."""
    loss: Measure | None = None
    """Their mean loss: the absolute log error, the squared error of a success rate."""
    baseline_loss: Measure | None = None
    """The mean loss of the median of the last five on the same outcomes."""
    drift: Flag | None = None
    """Whether the loss of the last 50 is above 1.2 times that at promotion."""


class PluginCounts(ResourceModel):
    """What became of requests since the operator started; answers, failures, declined and leftOut add up to them."""

    requests: Count = 0
    """How many requests came to the plugin."""
    answers: Count = 0
    """To how many of them it gave something that could be used, be it served or not."""
    failures: Count = 0
    """How many of them ended in an error, a time-out or a crash, or in an answer that was infeasible or nonsense."""
    declined: Count = 0
    """To how many of them it said, in good order, that it had no answer."""
    left_out: Count = 0
    """How many of them it was not asked, or not waited for: it was starting, in shadow, being trained, busy or left out
    after failures in a row, or the request had no time left."""
    fallbacks: Count = 0
    """How many of all requests another plugin or the built-in algorithm answered instead."""


class PluginLatency(ResourceModel):
    """How long the plugin's last answers took."""

    p50_ms: Annotated[int, Field(strict=True, ge=0, le=INT32_MAX), INTEGRAL] | None = None
    """The median, in milliseconds."""
    p99_ms: Annotated[int, Field(strict=True, ge=0, le=INT32_MAX), INTEGRAL] | None = None
    """The 99th percentile, in milliseconds."""


class OptimizerPluginStatus(ResourceModel):
    """What the operator knows of the plugin."""

    observed_generation: Annotated[int, Field(strict=True, ge=-1, le=MAX_COUNT), INTEGRAL] = -1
    """The metadata.generation that this status is for; -1 before the operator has seen the plugin."""
    conditions: Conditions | None = None
    """Ready says whether the plugin can be asked; Reconciling that it is being started or waited for; Stalled that the
    spec must change first; Trained that it has a model; Degraded that it failed too often and is left out."""
    version: Word | None = None
    """The version that the plugin gives of itself."""
    description: Annotated[str, Field(max_length=1024)] | None = None
    """What the plugin says that it does."""
    types: Annotated[list[Word], Field(max_length=16, json_schema_extra=ATOMIC_LIST)] | None = None
    """The types of request that it is asked for."""
    config_schema: FreeForm | None = None
    """JSON schema of the plugin's own configuration, where it has one."""
    model: PluginModel | None = None
    """The model that answers now."""
    candidate: PluginCandidate | None = None
    """A newer model in shadow."""
    skill: Annotated[str, Field(max_length=32, pattern=r"^(Unscored|Unproven|-?[0-9]+(\.[0-9]+)?)$")] | None = None
    """How much smaller the plugin's loss is than that of the median of the last five: 1 is perfect, 0 no better, below
    0 worse. Unscored where outcomes do not say, Unproven before there are enough."""
    score: PluginScore | None = None
    """What the skill is made of."""
    confidence: Share | None = None
    """The share of the last 100 scored predictions that were close enough. Absent below 30."""
    claimed_confidence: Share | None = None
    """The mean confidence that the plugin itself claims."""
    counts: PluginCounts | None = None
    """What was asked of the plugin; written at most once a minute."""
    latency: PluginLatency | None = None
    """How long the plugin's last answers took."""
    last_error: Annotated[str, Field(max_length=4096)] | None = None
    """The last error of the plugin."""


class OptimizerPlugin(RuledModel):
    """An optimiser that is asked before the built-in algorithms, which answer whenever it fails or does worse."""

    api_version: Literal["engineops.dev/v1alpha1"] = API_VERSION
    kind: Literal["OptimizerPlugin"] = KIND
    metadata: dict[str, Any]
    spec: OptimizerPluginSpec
    """The plugin and how it may be used."""
    status: OptimizerPluginStatus | None = None
    """What the operator knows of the plugin, written by the operator."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!(self.metadata.name in ['workload-data', 'none'])",
            holds=lambda plugin: plugin.metadata.get("name") not in RESERVED_NAMES,
            message="metadata.name must not be workload-data or none: both are reserved",
        ),
    )
