"""From the rules of live pods to checked models.

The API server has accepted them, so a field that the models do not know is left out. A part that they cannot read makes
the pod one that is not modelled; it never stops an answer.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import pydantic

from engine_ops.engine.scheduling.rules import (
    Affinity,
    Labels,
    NodeAffinity,
    PodAffinity,
    Toleration,
    TopologySpreadConstraint,
    parse_int,
)

_T = TypeVar("_T")
_MAX_UNKNOWN_FIELDS_ROUNDS = 4
"""A field inside an unknown one shows only after that has gone."""

_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

_SELECTOR = pydantic.TypeAdapter(Labels)
_TOLERATIONS = pydantic.TypeAdapter(tuple[Toleration, ...])
_SPREAD = pydantic.TypeAdapter(tuple[TopologySpreadConstraint, ...])


@dataclasses.dataclass(frozen=True, slots=True)
class LiveRules:
    """The rules of a live pod.

    Parameters
    ----------
    node_selector, affinity, tolerations, topology_spread_constraints
        As far as they could be read.
    unread
        The fields of the pod's spec that could not.
    """

    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    affinity: Affinity | None = None
    tolerations: Sequence[Toleration] = ()
    topology_spread_constraints: Sequence[TopologySpreadConstraint] = ()
    unread: tuple[str, ...] = ()


@functools.lru_cache(maxsize=8192)
def read_rules(text: str) -> LiveRules:
    """Read the JSON of `engine_ops.engine.cluster.records.PodKind.rules`; the same text is read once."""
    if not text:
        return LiveRules()
    written: dict[str, Any] = msgspec.json.decode(text)
    unread: list[str] = []

    def read(name: str, validate: Callable[[Any], _T], absent: _T) -> _T:
        value = written.get(name)
        if value is None:
            return absent
        try:
            return _validate_known(validate, value)
        except pydantic.ValidationError:
            unread.append(name)
            return absent

    affinity = _affinity(written.get("affinity"), unread)
    return LiveRules(
        node_selector=read("nodeSelector", _SELECTOR.validate_python, {}),
        affinity=affinity,
        tolerations=read("tolerations", _TOLERATIONS.validate_python, ()),
        topology_spread_constraints=read("topologySpreadConstraints", _SPREAD.validate_python, ()),
        unread=tuple(sorted(set(unread))),
    )


def _affinity(written: Any, unread: list[str]) -> Affinity | None:
    """Read an affinity, each of its parts by itself: what keeps others away counts though the rest is unreadable."""
    if written is None:
        return None
    parts: dict[str, Any] = {}
    models: tuple[tuple[str, str, type[NodeAffinity | PodAffinity]], ...] = (
        ("nodeAffinity", "node_affinity", NodeAffinity),
        ("podAffinity", "pod_affinity", PodAffinity),
        ("podAntiAffinity", "pod_anti_affinity", PodAffinity),
    )
    try:
        for field, name, model in models:
            if written.get(field) is not None:
                if field == "nodeAffinity":
                    _drop_terms_without_nodes(written[field])
                try:
                    parts[name] = _validate_known(model.model_validate, written[field])
                except pydantic.ValidationError:
                    unread.append("affinity")
    except (AttributeError, TypeError):
        # Some object in it is none.
        unread.append("affinity")
    return Affinity.model_validate(parts) if parts else None


def _drop_terms_without_nodes(node_affinity: Any) -> None:
    """Take out the alternatives of a required node affinity that kube-scheduler cannot parse: they choose no node.

    The API server accepts any text as the limit of Gt and Lt, and kept label values in pods that it would refuse now.
    See ``newNodeSelectorTerm`` and ``Match`` of ``k8s.io/component-helpers/scheduling/corev1/nodeaffinity``.
    """
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = required.get("nodeSelectorTerms") if required is not None else None
    if terms:
        kept = [term for term in terms if all(_parses(item) for item in term.get("matchExpressions") or ())]
        # An empty term chooses none.
        required["nodeSelectorTerms"] = kept or [{}]


def _parses(expression: Any) -> bool:
    values: Sequence[str] = expression.get("values") or ()
    if expression.get("operator") in {"Gt", "Lt"}:
        return len(values) == 1 and parse_int(values[0]) is not None
    return all(_LABEL_VALUE.fullmatch(value) for value in values)


def _validate_known(validate: Callable[[Any], _T], value: Any) -> _T:
    """Validate what the models know of a value, which is changed: unknown fields and nulls are taken out of it."""
    _drop_nulls(value)
    for _ in range(_MAX_UNKNOWN_FIELDS_ROUNDS):
        try:
            return validate(value)
        except pydantic.ValidationError as error:
            unknown = [item["loc"] for item in error.errors() if item["type"] == "extra_forbidden"]
            if not unknown:
                raise
            for location in unknown:
                _remove(value, location)
    return validate(value)


def _drop_nulls(value: Any) -> None:
    if isinstance(value, dict):
        for key in [key for key, item in value.items() if item is None]:
            del value[key]
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _drop_nulls(item)


def _remove(value: Any, location: Sequence[str | int]) -> None:
    for part in location[:-1]:
        value = value[part]
    del value[location[-1]]
