"""What a plugin recommends, where it gives no answer of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from engine_ops.api.faults import format_path
from engine_ops.api.quantity import parse_quantity
from engine_ops.plugins.fields import is_number
from engine_ops.plugins.json_values import RefusedError, quoted

FIELDS: Final = ("recommended_resources", "expected_duration", "node_scores", "order")
"""What makes a result advice."""


@dataclasses.dataclass(frozen=True, slots=True)
class Advice:
    """Recommendations for the built-in algorithm, and for who reads the answer.

    Parameters
    ----------
    recommended_resources
        Amounts by resource, in cores, bytes and each further resource's own unit.
    recommended_resources_by_id
        The same, for single items or tasks.
    expected_duration_ms
        Of the whole.
    expected_duration_ms_by_id
        Of single items or tasks.
    node_scores
        Of nodes by id, or of node types by name: the higher the better. Any scale.
    node_scores_by_task
        The same, for single tasks.
    order
        Ids of items or tasks, the first to be placed first; those that are not named come after them.
    """

    recommended_resources: Mapping[str, float] = dataclasses.field(default_factory=dict)
    recommended_resources_by_id: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    expected_duration_ms: float | None = None
    expected_duration_ms_by_id: Mapping[str, float] = dataclasses.field(default_factory=dict)
    node_scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    node_scores_by_task: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    order: Sequence[str] = ()

    @property
    def guides(self) -> bool:
        """Whether there is anything in it that a placement can follow; the rest is told beside the answer."""
        return bool(self.node_scores or self.node_scores_by_task or self.order)

    def told(self) -> dict[str, Any]:
        """Return what is for readers of the answer, as JSON values: the resources and durations that are there."""
        resources = self.recommended_resources or self.recommended_resources_by_id
        duration = self.expected_duration_ms_by_id or self.expected_duration_ms
        told: dict[str, Any] = {}
        if resources:
            told["recommendedResources"] = resources
        if duration is not None and duration != {}:
            told["expectedDurationMs"] = duration
        return told


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """What a request has names for.

    Parameters
    ----------
    subjects
        Ids of its items, tasks or containers.
    nodes
        Ids of its nodes, or names of its node types.
    """

    subjects: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()


NOTHING_NAMED: Final = Names()
"""Of a request that the built-in cannot solve."""


def is_advice(result: Mapping[str, Any]) -> bool:
    """Whether a result has a field of advice."""
    return any(name in result for name in FIELDS)


def read_advice(result: Mapping[str, Any], names: Names) -> Advice:
    """Check advice.

    ``recommended_resources`` is ``{cpu: ...}`` or, by id, ``{id: {cpu: ...}}``; ``expected_duration`` is milliseconds
    or ``{id: milliseconds}``; ``node_scores`` is ``{node: score}`` or ``{task: {node: score}}``; ``order`` is a list of
    ids. Other fields are the plugin's own and not read.

    Parameters
    ----------
    result
        JSON values.
    names
        Of the request. Advice for anything else is refused: it was meant for another request.

    Raises
    ------
    RefusedError
        Naming the field.
    """
    resources, resources_by_id = _one_or_by_id(result, "recommended_resources", names.subjects, _amount)
    scores, scores_by_task = _one_or_by_id(result, "node_scores", names.subjects, _score)
    for scored, path in ((scores, ("node_scores",)), *((v, ("node_scores", k)) for k, v in scores_by_task.items())):
        for node in scored:
            _known(node, names.nodes, path, "node or node type")
    duration, duration_by_id = _durations(result.get("expected_duration"), names.subjects)
    return Advice(
        recommended_resources=resources,
        recommended_resources_by_id=resources_by_id,
        expected_duration_ms=duration,
        expected_duration_ms_by_id=duration_by_id,
        node_scores=scores,
        node_scores_by_task=scores_by_task,
        order=_order(result.get("order"), names.subjects),
    )


def _path(*parts: str | int) -> str:
    return format_path(parts, root="result")


_Read = Callable[[object, tuple[str | int, ...]], float]


def _one_or_by_id(
    result: Mapping[str, Any], field: str, subjects: frozenset[str], read: _Read
) -> tuple[Mapping[str, float], Mapping[str, Mapping[str, float]]]:
    """Read ``{name: number}`` or ``{id: {name: number}}``: the values say which of them it is."""
    value = result.get(field)
    if value is None:
        return {}, {}
    if not isinstance(value, dict):
        raise RefusedError(_path(field), f"must be an object, not {quoted(value)}")
    if not any(isinstance(item, dict) for item in value.values()):
        return {name: read(item, (field, name)) for name, item in value.items()}, {}
    by_id = {}
    for subject, part in value.items():
        _known(subject, subjects, (field,), "item or task")
        if not isinstance(part, dict):
            raise RefusedError(_path(field, subject), f"must be an object, as others beside it, not {quoted(part)}")
        by_id[subject] = {name: read(item, (field, subject, name)) for name, item in part.items()}
    return {}, by_id


def _durations(value: object, subjects: frozenset[str]) -> tuple[float | None, Mapping[str, float]]:
    if value is None:
        return None, {}
    if not isinstance(value, dict):
        return _duration(value, ("expected_duration",)), {}
    for subject in value:
        _known(subject, subjects, ("expected_duration",), "item or task")
    return None, {subject: _duration(item, ("expected_duration", subject)) for subject, item in value.items()}


def _order(value: object, subjects: frozenset[str]) -> Sequence[str]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RefusedError(_path("order"), f"must be a list of ids, not {quoted(value)}")
    seen: dict[str, int] = {}
    for place, subject in enumerate(value):
        if not isinstance(subject, str) or subject not in subjects:
            raise RefusedError(_path("order", place), f"{quoted(subject)} is the id of no item or task of the request")
        if seen.setdefault(subject, place) != place:
            raise RefusedError(_path("order", place), f"{quoted(subject)} is named before")
    return tuple(seen)


def _known(name: str, names: frozenset[str], path: tuple[str | int, ...], what: str) -> None:
    if name not in names:
        raise RefusedError(_path(*path, name), f"{quoted(name)} is no {what} of the request")


def _amount(value: object, path: tuple[str | int, ...]) -> float:
    try:
        return parse_quantity(value)
    except ValueError as error:
        raise RefusedError(_path(*path), str(error)) from error


def _score(value: object, path: tuple[str | int, ...]) -> float:
    if not is_number(value):
        raise RefusedError(_path(*path), f"must be a number, not {quoted(value)}")
    return float(value)


def _duration(value: object, path: tuple[str | int, ...]) -> float:
    duration = _score(value, path)
    if duration < 0:
        raise RefusedError(_path(*path), f"must be at least 0 ms, is {duration:g}")
    return duration
