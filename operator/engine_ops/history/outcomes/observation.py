"""What was seen so far of the workload of one open point; it survives a restart in `OpenPoint.state`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine_ops.history.outcomes.jobs import Run
from engine_ops.history.outcomes.records import ContainerSpec, PodRecord, UsageSample
from engine_ops.history.outcomes.terminations import Terminations
from engine_ops.history.outcomes.usage import MAX_CONTAINERS, Usage

_FORMAT: Final = 1
_MAX_RESOURCES: Final = 8


class Observation:
    """What was seen so far.

    Attributes
    ----------
    run
        The Job or pod that the point is for, once it is known which.
    ended_seen_ms
        When its end was seen first; None before.
    uid
        Of a service; empty while it is not known.
    looked
        Whether its pods were looked at.
    pods
        The most pods that were there at one time, ended ones too.
    first_start_ms, last_end_ms
        Of the pods that were seen.
    quiet_since_ms
        Since when none of its pods ran (of a selector); None while one does.
    specs
        By container, as last seen in a pod, before in the template; at most `MAX_CONTAINERS`.
    requested, limits
        Of one pod, as first seen.
    usage, terminations
        What its containers used, and how they ended.
    """

    __slots__ = (
        "ended_seen_ms",
        "first_start_ms",
        "last_end_ms",
        "limits",
        "looked",
        "pods",
        "quiet_since_ms",
        "requested",
        "run",
        "specs",
        "terminations",
        "uid",
        "usage",
    )

    def __init__(self) -> None:
        self.run: Run | None = None
        self.ended_seen_ms: int | None = None
        self.uid = ""
        self.looked = False
        self.pods = 0
        self.first_start_ms: int | None = None
        self.last_end_ms: int | None = None
        self.quiet_since_ms: int | None = None
        self.specs: dict[str, ContainerSpec] = {}
        self.requested: dict[str, float] = {}
        self.limits: dict[str, float] = {}
        self.usage = Usage()
        self.terminations = Terminations()

    def see_template(self, specs: Sequence[ContainerSpec]) -> None:
        """Take what the workload's template asks for."""
        self._ask(specs)
        for spec in specs:
            if spec.name not in self.specs and len(self.specs) < MAX_CONTAINERS:
                self.specs[spec.name] = spec

    def see_pods(self, pods: Sequence[PodRecord], since_ms: int) -> None:
        """Take what there is of the workload's pods.

        Parameters
        ----------
        pods
            All that there are now.
        since_ms
            What ended before is not counted; 0 where the pods are its own from the beginning.
        """
        self.terminations.look(pods, since_ms, first=not self.looked)
        self.looked = True
        self.pods = max(self.pods, len(pods))
        for pod in pods:
            self._ask(pod.specs)
            for spec in pod.specs:
                if spec.name in self.specs or len(self.specs) < MAX_CONTAINERS:
                    self.specs[spec.name] = spec
            if pod.started_ms is not None:
                self.first_start_ms = min(self.first_start_ms or pod.started_ms, pod.started_ms)
            if pod.phase in {"Succeeded", "Failed"} and pod.finished_ms is not None:
                self.last_end_ms = max(self.last_end_ms or 0, pod.finished_ms)

    def see_usage(
        self, pods: Sequence[PodRecord], samples: Mapping[str, Sequence[UsageSample]], since_ms: int, until_ms: int
    ) -> None:
        """Count samples of these pods, by pod name, that were taken from ``since_ms`` on and before ``until_ms``."""
        for pod in pods:
            moment = samples.get(pod.name)
            if moment and since_ms <= moment[0].at_ms < until_ms:
                self.usage.add(moment)

    def _ask(self, specs: Sequence[ContainerSpec]) -> None:
        if not self.requested:
            self.requested = _sum(spec.requests for spec in specs)
        if not self.limits:
            self.limits = _sum(spec.limits for spec in specs)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, without what is empty: most points wait for long without anything seen."""
        data: dict[str, Any] = {"v": _FORMAT}
        for name in ("ended_seen_ms", "uid", "looked", "pods", "first_start_ms", "last_end_ms", "quiet_since_ms"):
            value = getattr(self, name)
            if value:
                data[name] = value
        if self.run is not None:
            data["run"] = self.run.to_json()
        if self.specs:
            data["specs"] = {spec.name: [dict(spec.requests), dict(spec.limits)] for spec in self.specs.values()}
        if self.requested or self.limits:
            data["asked"] = [self.requested, self.limits]
        if self.usage.samples:
            data["usage"] = self.usage.to_json()
        if self.looked:
            data["ends"] = self.terminations.to_json()
        return data

    @classmethod
    def from_json(cls, data: Any) -> Observation:
        """Return what `to_json` gave; a new one for anything else (edited by hand, or of a later format)."""
        try:
            return cls._from_json(data)
        except (TypeError, ValueError, KeyError, AttributeError):
            return cls()

    @classmethod
    def _from_json(cls, data: Any) -> Observation:
        made = cls()
        if data.get("v") != _FORMAT:
            return made
        for name in ("ended_seen_ms", "first_start_ms", "last_end_ms", "quiet_since_ms"):
            value = data.get(name)
            setattr(made, name, None if value is None else int(value))
        made.uid, made.looked, made.pods = str(data.get("uid", "")), bool(data.get("looked")), int(data.get("pods", 0))
        if "run" in data:
            made.run = Run.from_json(data["run"])
        for name, (requests, limits) in list(data.get("specs", {}).items())[:MAX_CONTAINERS]:
            made.specs[name] = ContainerSpec(name, _numbers(requests), _numbers(limits))
        requested, limits = data.get("asked", ({}, {}))
        made.requested, made.limits = _numbers(requested), _numbers(limits)
        if "usage" in data:
            made.usage = Usage.from_json(data["usage"])
        if made.looked:
            made.terminations = Terminations.from_json(data["ends"])
        return made


def _sum(parts: Any) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, amount in part.items():
            if name in total or len(total) < _MAX_RESOURCES:
                total[name] = total.get(name, 0.0) + amount
    return total


def _numbers(data: Any) -> dict[str, float]:
    return {str(name): float(amount) for name, amount in data.items()}
