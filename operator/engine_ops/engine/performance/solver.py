"""The solver of type ``performance``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.api.quantity import format_bytes, format_cpu
from engine_ops.engine.contract import Answer, Budget, Explanation, Report
from engine_ops.engine.performance.backtest import loss_ratio, score
from engine_ops.engine.performance.checks import load
from engine_ops.engine.performance.model import ContainerSamples, Current, PerformanceData
from engine_ops.engine.performance.quantiles import peak_coverage
from engine_ops.engine.performance.sizing import Goal, Resource, Sizing, size

ALGORITHM = "quantile-and-margin"
"""The name in ``solvedBy.algorithm``."""

_RESOURCES: tuple[Resource, Resource] = ("cpu", "memory")
_MAX_NAMED = 5


@dataclasses.dataclass(frozen=True, slots=True)
class _Sized:
    container: ContainerSamples
    sizing: Mapping[Resource, Sizing]
    ratios: Sequence[float | None]


class PerformanceSolver:
    """Sizes containers from samples: a quantile and a margin, with the interval that the samples support.

    By default cpu is requested at its 95th percentile and not limited, memory is requested and limited at its peak,
    both with 15 % more: throttling slows a container down, running out of memory kills it.
    """

    def solve(self, data: Mapping[str, Any], constraints: Mapping[str, Any], budget: Budget, report: Report) -> Answer:
        """Answer. See `engine_ops.engine.contract.Solver.solve`.

        ``result`` is ``{containers: [{name, requests, limits, lowerBound, upperBound, basis}]}`` with amounts as
        Kubernetes quantities. ``lowerBound`` and ``upperBound`` are the requests for the ends of the quantile's
        confidence interval; ``upperBound`` lacks a resource whose samples cannot bound it. The peak is such a one:
        there ``basis`` has ``coverage``, the share of usage that is below the samples' peak at that confidence.
        ``score`` is 1 minus the pinball loss on the back-test as a part of the loss of the peak and 15 %; None below
        20 samples.
        """
        del budget
        model = load(data, constraints)
        sized = _size_all(model)
        ratios = [ratio for item in sized for ratio in item.ratios]
        answer = Answer(
            result={"containers": [_container(item, model.samples.interval_seconds) for item in sized]},
            algorithm=ALGORITHM,
            message=_message(sized),
            score=score(ratios),
            summary={"containerCount": len(sized)},
        )
        report(lambda: answer)
        return answer

    def explain(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any]
    ) -> Explanation:
        """Return a row for each container and resource."""
        model = load(data, constraints)
        answered = _by_name(result, [container.name for container in model.samples.containers])
        rows = []
        for item in _size_all(model):
            shown = answered[item.container.name]
            for resource, ratio in zip(_RESOURCES, item.ratios, strict=True):
                rows.append(_row(item, resource, shown, ratio))
        return Explanation(
            title=f"{len(model.samples.containers)} containers: requests and limits from samples",
            headers=("CONTAINER", "RESOURCE", "NOW", "REQUEST", "LIMIT", "INTERVAL", "RULE", "SAMPLES", "BACK-TEST"),
            rows=rows,
            notes=(
                f"INTERVAL: the request with {model.objective.confidence:.0%} confidence, "
                "given samples as independent as they look.",
                "BACK-TEST: the rule's pinball loss on the newest 30 % of the samples, as a part of the loss of the "
                "peak and 15 %; below 1 is better.",
            ),
        )


def _size_all(model: PerformanceData) -> list[_Sized]:
    goals = {resource: Goal.of(model.objective, resource) for resource in _RESOURCES}
    sized = []
    for container in model.samples.containers:
        samples = {
            "cpu": np.array(container.cpu, np.float64),
            "memory": np.array(container.memory, np.float64),
        }
        sized.append(
            _Sized(
                container,
                {resource: size(samples[resource], goals[resource]) for resource in _RESOURCES},
                [loss_ratio(samples[resource], goals[resource]) for resource in _RESOURCES],
            )
        )
    return sized


def _container(item: _Sized, interval_seconds: float | None) -> dict[str, Any]:
    sizing = item.sizing
    return {
        "name": item.container.name,
        "requests": {resource: sizing[resource].request for resource in _RESOURCES},
        "limits": {r: limit for r in _RESOURCES if (limit := sizing[r].limit) is not None},
        "lowerBound": {resource: sizing[resource].lower for resource in _RESOURCES},
        "upperBound": {r: upper for r in _RESOURCES if (upper := sizing[r].upper) is not None},
        "basis": {resource: _basis(sizing[resource], interval_seconds) for resource in _RESOURCES},
    }


def _basis(sizing: Sizing, interval_seconds: float | None) -> dict[str, Any]:
    goal, found = sizing.goal, sizing.estimate
    basis: dict[str, Any] = {
        "rule": goal.rule,
        "quantile": goal.level,
        "margin": goal.margin,
        "limit": goal.limit,
        "confidence": goal.confidence,
        "samples": found.samples,
        "effectiveSamples": found.effective_samples,
        "thin": sizing.thin,
    }
    if goal.level >= 1:
        basis["coverage"] = round(peak_coverage(found.effective_samples, goal.confidence), 4)
    if interval_seconds is not None:
        basis["spanSeconds"] = interval_seconds * found.samples
    if sizing.bound is not None:
        basis["bound"] = sizing.bound
    return basis


def _message(sized: Sequence[_Sized]) -> str:
    message = f"requests and limits for {len(sized)} container{'s' if len(sized) != 1 else ''}"
    thin = [
        f"{item.container.name} {resource} ({item.sizing[resource].estimate.samples} samples)"
        for item in sized
        for resource in _RESOURCES
        if item.sizing[resource].thin
    ]
    if thin:
        more = f" and {len(thin) - _MAX_NAMED} more" if len(thin) > _MAX_NAMED else ""
        message += f"; few independent samples, so treat as a first guess: {', '.join(thin[:_MAX_NAMED])}{more}"
    return message


def _by_name(result: Mapping[str, Any], names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    containers = result.get("containers")
    found = {item.get("name"): item for item in containers} if isinstance(containers, list) else {}
    missing = [name for name in names if name not in found]
    if missing or len(found) != len(names):
        what = f"container {missing[0]!r} is not in it" if missing else "it names containers that are not in the data"
        raise InvalidDataError([Fault("result.containers", what)])
    return found


def _row(item: _Sized, resource: Resource, shown: Mapping[str, Any], ratio: float | None) -> tuple[str, ...]:
    def amount(field: str) -> str:
        return str(shown.get(field, {}).get(resource, "-"))

    sizing = item.sizing[resource]
    samples = f"{sizing.estimate.samples}" + (" (few)" if sizing.thin else "")
    return (
        item.container.name,
        resource,
        _current(item.container.current, resource),
        amount("requests"),
        amount("limits"),
        f"{amount('lowerBound')} to {amount('upperBound')}",
        sizing.goal.rule + (f", {sizing.bound} bound" if sizing.bound else ""),
        samples,
        "-" if ratio is None else f"{ratio:.2f}",
    )


def _current(current: Current | None, resource: Resource) -> str:
    if current is None:
        return "-"
    write = format_cpu if resource == "cpu" else format_bytes
    pair = [getattr(part, resource) for part in (current.requests, current.limits)]
    return "/".join("-" if value is None else write(value) for value in pair)
