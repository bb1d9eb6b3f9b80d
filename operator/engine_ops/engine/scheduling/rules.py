"""Where a task may go, in Kubernetes' own shapes: selectors, affinity, taints, tolerations, topology spread.

The shapes and their rules are those of ``k8s.io/api/core/v1``.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from engine_ops.api.base import ApiModel

LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[str, Field(max_length=253)]
Labels = dict[LabelKey, LabelValue]

_T = TypeVar("_T")


def _not_empty(items: tuple[_T, ...]) -> tuple[_T, ...]:
    if not items:
        raise ValueError("must not be empty")
    return items


# pydantic's own minimum counts only the valid items of a tuple: a bad one would be two faults.
NotEmpty = AfterValidator(_not_empty)
"""For a tuple with at least one item."""

HARD_EFFECTS = frozenset({"NoSchedule", "NoExecute"})
"""Taints with these effects keep a task away; PreferNoSchedule only lowers the node's score."""


class Expression(ApiModel):
    """One requirement on a label of tasks."""

    key: LabelKey
    """The label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label's value and ``values`` compare."""
    values: tuple[LabelValue, ...] = ()
    """At least one for In and NotIn, none for Exists and DoesNotExist."""

    @model_validator(mode="after")
    def _values_fit_operator(self) -> Self:
        _check_values(self.operator, self.values)
        return self


class NodeExpression(ApiModel):
    """One requirement on a label, or on the name, of a node."""

    key: LabelKey
    """The label; in ``matchFields`` it is ``metadata.name``."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """How the label's value and ``values`` compare."""
    values: tuple[LabelValue, ...] = ()
    """At least one for In and NotIn, one whole number for Gt and Lt, none for Exists and DoesNotExist."""

    @model_validator(mode="after")
    def _values_fit_operator(self) -> Self:
        _check_values(self.operator, self.values)
        return self


def _check_values(operator: str, values: tuple[str, ...]) -> None:
    if operator in {"In", "NotIn"} and not values:
        raise ValueError(f"operator {operator} needs at least one of values")
    if operator in {"Exists", "DoesNotExist"} and values:
        raise ValueError(f"operator {operator} takes no values")
    if operator in {"Gt", "Lt"} and (len(values) != 1 or parse_int(values[0]) is None):
        raise ValueError(f"operator {operator} needs exactly one value, a whole number")


def parse_int(text: str) -> int | None:
    """Read a label's value as Gt and Lt do: a decimal int64, or None."""
    digits = text[1:] if text[:1] in {"+", "-"} else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


class LabelSelector(ApiModel):
    """Chooses tasks by their labels; everything in it must hold. An empty one chooses all, an absent one none."""

    match_labels: Labels = Field(default_factory=dict)
    """Labels with these values."""
    match_expressions: tuple[Expression, ...] = ()
    """Further requirements."""


class NodeSelectorTerm(ApiModel):
    """Chooses nodes; everything in it must hold. An empty term chooses none."""

    match_expressions: tuple[NodeExpression, ...] = ()
    """Requirements on labels."""
    match_fields: tuple[NodeExpression, ...] = ()
    """Requirements on ``metadata.name``, which is the node's id."""

    @model_validator(mode="after")
    def _fields_are_names(self) -> Self:
        for field in self.match_fields:
            if field.key != "metadata.name":
                raise ValueError("matchFields knows the key metadata.name only")
            if field.operator not in {"In", "NotIn"} or len(field.values) != 1:
                raise ValueError("matchFields needs the operator In or NotIn and exactly one value")
        return self


class NodeSelector(ApiModel):
    """Alternatives: one of the terms must hold."""

    node_selector_terms: Annotated[tuple[NodeSelectorTerm, ...], NotEmpty]
    """The alternatives."""


Weight = Annotated[int, Field(ge=1, le=100)]


class PreferredNodes(ApiModel):
    """A preference for nodes."""

    weight: Weight
    """Its weight among the task's preferences."""
    preference: NodeSelectorTerm
    """Which nodes."""


class NodeAffinity(ApiModel):
    """Which nodes a task needs, and which it prefers."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """What must hold."""
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredNodes, ...] = ()
    """What is better."""


class PodAffinityTerm(ApiModel):
    """Tasks that match ``labelSelector``, in the same domain of ``topologyKey``."""

    topology_key: LabelKey
    """The node label whose values are the domains."""
    label_selector: LabelSelector | None = None
    """Which tasks."""
    namespaces: tuple[str, ...] = ()
    """In these namespaces, besides those of ``namespaceSelector``; without either in the task's own."""
    namespace_selector: LabelSelector | None = None
    """In namespaces with such labels; an empty one means all."""
    match_label_keys: tuple[LabelKey, ...] = ()
    """Labels whose values, as the task has them, are required besides ``labelSelector``."""
    mismatch_label_keys: tuple[LabelKey, ...] = ()
    """Labels whose values, as the task has them, are excluded besides ``labelSelector``."""


class WeightedPodAffinityTerm(ApiModel):
    """A preference for, or against, the company of tasks."""

    weight: Weight
    """Its weight among the task's preferences."""
    pod_affinity_term: PodAffinityTerm
    """Which tasks, and how near."""


class PodAffinity(ApiModel):
    """The company a task needs or prefers, or must or would rather avoid."""

    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] = ()
    """What must hold."""
    preferred_during_scheduling_ignored_during_execution: tuple[WeightedPodAffinityTerm, ...] = ()
    """What is better."""


class Affinity(ApiModel):
    """A task's affinity."""

    node_affinity: NodeAffinity | None = None
    """To nodes."""
    pod_affinity: PodAffinity | None = None
    """To other tasks of the request."""
    pod_anti_affinity: PodAffinity | None = None
    """Against other tasks of the request."""


class Toleration(ApiModel):
    """Which taints a task bears."""

    key: Annotated[str, Field(max_length=317)] = ""
    """The taint's key; empty, with the operator Exists, means every key."""
    operator: Literal["Equal", "Exists", "Lt", "Gt"] = "Equal"
    """Whether the value counts; with Lt and Gt the taint's value must be a number below or above it."""
    value: LabelValue = ""
    """The taint's value, for Equal; a whole number for Lt and Gt."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """The taint's effect; empty means every effect."""
    toleration_seconds: int | None = None
    """Accepted, because pods have it; a placement does not depend on it."""

    @model_validator(mode="after")
    def _key_or_exists(self) -> Self:
        if not self.key and self.operator != "Exists":
            raise ValueError("operator must be Exists when key is empty, which means every taint")
        if self.operator == "Exists" and self.value:
            raise ValueError("value must be empty when operator is Exists")
        if self.operator in {"Lt", "Gt"} and _decimal(self.value) is None:
            raise ValueError(f"operator {self.operator} needs a whole number as value")
        return self

    def tolerates(self, key: str, value: str, effect: str) -> bool:
        """Whether a taint is borne, as ``Toleration.ToleratesTaint`` of ``k8s.io/api`` decides it."""
        if self.effect and self.effect != effect:
            return False
        if self.key and self.key != key:
            return False
        if self.operator in {"Lt", "Gt"}:
            limit, number = _decimal(self.value), _decimal(value)
            if limit is None or number is None:
                return False
            return number < limit if self.operator == "Lt" else number > limit
        return self.operator == "Exists" or self.value == value


def _decimal(text: str) -> int | None:
    """Read a number of a taint as Lt and Gt do: as `parse_int`, in its shortest spelling only."""
    number = parse_int(text)
    return number if number is not None and str(number) == text else None


class Taint(ApiModel):
    """What keeps tasks off a node."""

    key: LabelKey
    """Its name."""
    value: LabelValue = ""
    """Its value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    """How strictly it keeps them off; NoSchedule and NoExecute are the same to a placement."""
    time_added: str | None = None
    """Accepted, because nodes have it."""


Policy = Literal["Honor", "Ignore"]


class TopologySpreadConstraint(ApiModel):
    """How evenly tasks must, or should, be spread over the domains of a topology."""

    max_skew: Annotated[int, Field(ge=1, le=2**31 - 1)]
    """By how many tasks a domain may exceed the emptiest one."""
    topology_key: LabelKey
    """The node label whose values are the domains."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    """Whether it is a filter, or a part of the score."""
    label_selector: LabelSelector | None = None
    """Which tasks are counted."""
    match_label_keys: tuple[LabelKey, ...] = ()
    """Labels whose values, as the task has them, are added to ``labelSelector``."""
    min_domains: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """With fewer domains than these the emptiest one counts as empty; for DoNotSchedule only."""
    node_affinity_policy: Policy = "Honor"
    """Whether nodes that the task's node affinity excludes are left out of the count."""
    node_taints_policy: Policy = "Ignore"
    """Whether nodes whose taints the task does not tolerate are left out of the count."""

    @model_validator(mode="after")
    def _min_domains_is_hard(self) -> Self:
        if self.min_domains is not None and self.when_unsatisfiable != "DoNotSchedule":
            raise ValueError("minDomains needs whenUnsatisfiable: DoNotSchedule")
        return self
