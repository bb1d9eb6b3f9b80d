"""A plugin's answer to a ``performance`` request, held against the objective that the built-in sizes for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine_ops.api.quantity import parse_quantity
from engine_ops.engine.contract import Answer
from engine_ops.engine.performance.backtest import loss_ratio
from engine_ops.engine.performance.checks import load
from engine_ops.engine.performance.model import ContainerSamples, PerformanceData
from engine_ops.engine.performance.sizing import Goal, Resource
from engine_ops.plugins.checked import Checked
from engine_ops.plugins.fields import ABSENT, entries, text
from engine_ops.plugins.json_values import RefusedError, quoted

_RESOURCES: tuple[Resource, Resource] = ("cpu", "memory")
_PARTS = ("requests", "limits", "lowerBound", "upperBound")


class SizingChecker:
    """Holds requests and limits against the objective that the built-in sizes for.

    Parameters
    ----------
    model
        The samples and the objective.
    """

    def __init__(self, model: PerformanceData) -> None:
        self._goals = {resource: Goal.of(model.objective, resource) for resource in _RESOURCES}
        self.containers = {container.name: container for container in model.samples.containers}

    @classmethod
    def of(cls, data: Mapping[str, Any], constraints: Mapping[str, Any]) -> SizingChecker:
        """Return the checker of a request.

        Raises
        ------
        InvalidDataError
            If the data or a constraint is wrong.
        """
        return cls(load(data, constraints))

    def check(self, result: Mapping[str, Any], algorithm: str) -> Checked:
        """Check ``{containers: [{name, requests, limits?, lowerBound?, upperBound?}]}``.

        Every container must be named once, with requests for cpu and memory within the objective's bounds. Limits are
        those that the objective asks for: none, the request, or at least the peak of the samples and the margin; one
        that is absent is filled in. Amounts are written as the engine writes them: rounded up to whole milli-cores and
        mebibytes.

        There is no score: the built-in's is that of its rule on the newest samples, fitted on the older ones. A plugin
        that has seen all samples has none that it could be tried on; see `losses`.

        Parameters
        ----------
        result
            JSON values.
        algorithm
            The name of what made it, for the answer.

        Raises
        ------
        RefusedError
            If it breaks the objective, or is not in this shape.
        """
        found: dict[str, dict[str, Any]] = {}
        for path, entry in entries(result, "containers", "result"):
            name = text(entry, "name", path)
            if name not in self.containers:
                raise RefusedError(f"{path}.name", f"{quoted(name)} is no container of data.samples")
            if name in found:
                raise RefusedError(f"{path}.name", f"{quoted(name)} is named before")
            found[name] = self._container(self.containers[name], entry, path)
        missing = [name for name in self.containers if name not in found]
        if missing:
            raise RefusedError("result.containers", f"container {quoted(missing[0])} is not in it")
        count = len(found)
        return Checked(
            Answer(
                result={"containers": [found[name] for name in self.containers]},
                algorithm=algorithm,
                message=f"requests and limits for {count} container{'s' if count != 1 else ''}",
                summary={"containerCount": count},
            ),
            (),
        )

    def losses(self, older: Mapping[str, Any]) -> list[float | None]:
        """Return the loss on the newest samples of each container's requests for cpu and memory.

        Parameters
        ----------
        older
            A result, JSON values, to the question of `engine_ops.engine.performance.hold_out.older_data`.

        Returns
        -------
        list of float or None
            See `engine_ops.engine.performance.backtest.loss_ratio`.

        Raises
        ------
        RefusedError
            If a request is missing or no amount.
        """
        chosen = self._requests(older)
        ratios: list[float | None] = []
        for name, container in self.containers.items():
            for resource in _RESOURCES:
                samples = np.array(container.cpu if resource == "cpu" else container.memory, np.float64)
                ratios.append(loss_ratio(samples, self._goals[resource], chosen[name, resource]))
        return ratios

    def _requests(self, result: Mapping[str, Any]) -> dict[tuple[str, Resource], float]:
        """Read the requests of every container."""
        found: dict[tuple[str, Resource], float] = {}
        for path, entry in entries(result, "containers", "result"):
            name, part = text(entry, "name", path), _part(entry, "requests", path)
            for resource in _RESOURCES:
                amount = _amount(part, resource, f"{path}.requests")
                if amount is None:
                    raise RefusedError(f"{path}.requests.{resource}", ABSENT)
                found[name, resource] = amount
        missing = [name for name in self.containers if (name, "cpu") not in found]
        if missing:
            raise RefusedError("result.containers", f"container {quoted(missing[0])} is not in it")
        return found

    def _container(self, container: ContainerSamples, entry: Mapping[str, Any], path: str) -> dict[str, Any]:
        parts = {part: _part(entry, part, path) for part in _PARTS}
        written: dict[str, Any] = {"name": container.name, **{part: {} for part in _PARTS}}
        for resource in _RESOURCES:
            goal = self._goals[resource]
            amounts = {part: _amount(parts[part], resource, f"{path}.{part}") for part in _PARTS}
            request = amounts["requests"]
            if request is None:
                raise RefusedError(f"{path}.requests.{resource}", ABSENT)
            for part, amount in amounts.items():
                if amount is not None:
                    _within(goal, amount, f"{path}.{part}.{resource}")
                    written[part][resource] = goal.written(amount)
            limit = self._limit(goal, container, request, amounts["limits"], f"{path}.limits.{resource}")
            if limit is not None:
                written["limits"][resource] = limit
            lower, upper = amounts["lowerBound"], amounts["upperBound"]
            if lower is not None and lower > request:
                raise RefusedError(f"{path}.lowerBound.{resource}", "must not be above the request")
            if upper is not None and upper < request:
                raise RefusedError(f"{path}.upperBound.{resource}", "must not be below the request")
        return written | {"basis": {resource: {"rule": "plugin"} for resource in _RESOURCES}}

    def _limit(
        self, goal: Goal, container: ContainerSamples, request: float, limit: float | None, path: str
    ) -> str | None:
        if goal.limit == "none":
            if limit is not None:
                raise RefusedError(path, f"the objective asks for no limit of {goal.resource}")
            return None
        least = parse_quantity(goal.written(request))
        if goal.limit == "request":
            if limit is not None and parse_quantity(goal.written(limit)) != least:
                raise RefusedError(path, "the objective asks for the same limit as the request")
            return goal.written(request)
        samples = np.array(container.cpu if goal.resource == "cpu" else container.memory, np.float64)
        peak = goal.written(goal.bounded(float(np.max(samples)) * (1 + goal.margin)))
        least = max(least, parse_quantity(peak))
        if limit is None:
            return goal.written(least)
        chosen = goal.written(limit)
        if parse_quantity(chosen) < least:
            raise RefusedError(path, f"{chosen} is below the request, or the samples' peak and the margin, {peak}")
        return chosen


def _part(entry: Mapping[str, Any], part: str, path: str) -> Mapping[str, Any]:
    found = entry.get(part)
    if found is None:
        found = {}
    if not isinstance(found, dict):
        raise RefusedError(f"{path}.{part}", f"must be an object, not {quoted(found)}")
    unknown = [name for name in found if name not in _RESOURCES]
    if unknown:
        raise RefusedError(f"{path}.{part}", f"has {quoted(unknown[0])}: only cpu and memory are sized")
    return found


def _amount(part: Mapping[str, Any], resource: Resource, path: str) -> float | None:
    value = part.get(resource)
    if value is None:
        return None
    try:
        return parse_quantity(value)
    except ValueError as error:
        raise RefusedError(f"{path}.{resource}", str(error)) from error


def _within(goal: Goal, amount: float, path: str) -> None:
    """Refuse what is beyond the bounds, by more than the rounding to whole milli-cores and mebibytes can do."""
    least, most = parse_quantity(goal.written(goal.least)), goal.most
    if amount < min(least, goal.least):
        raise RefusedError(path, f"{amount:g} is below the objective's bound, {goal.least:g}")
    if amount > most:
        raise RefusedError(path, f"{amount:g} is above the objective's bound, {most:g}")
