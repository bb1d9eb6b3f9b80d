"""What Prometheus answers to a range query, as usage of workloads.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from engine_ops.history.formats.faults import FieldError, FormatError, OnFault, refuse, shown
from engine_ops.history.formats.json_stream import ArrayStream
from engine_ops.history.formats.source import Source
from engine_ops.history.formats.windows import DAY_MS, summarise, window_point, window_start
from engine_ops.ml.data_point import WorkloadDataPoint

_PATH: Final = (frozenset({"data"}), frozenset({"result"}))
# The alphabet of the suffixes that Kubernetes makes up (k8s.io/apimachinery, util/rand): no vowels, nothing alike.
_SAFE: Final = "bcdfghjklmnpqrstvwxz2456789"
_OF_DEPLOYMENT: Final = re.compile(rf"(.+)-[{_SAFE}]{{6,10}}-[{_SAFE}]{{5}}")
_OF_STATEFUL_SET: Final = re.compile(r"(.+)-\d{1,5}")
_OF_OTHER: Final = re.compile(rf"(.+)-[{_SAFE}]{{5}}")
_KINDS: Final = {
    kind.lower(): kind for kind in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicaSet", "Pod")
}
_PAUSE: Final = "POD"
"""The container that holds a pod's network; its usage is no workload's."""
_LAST_SECONDS: Final = 10**11


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """A file of one metric.

    Parameters
    ----------
    source
        The file.
    resource
        What it measures: ``cpu`` (cores), ``memory`` (bytes). None takes it from the name of the metric, where the
        answer still has one.
    """

    source: Source
    resource: str | None = None


class _Pod:
    """Samples of one pod in one window: by resource and container, the moments and the amounts."""

    __slots__ = ("samples",)

    def __init__(self) -> None:
        self.samples: dict[tuple[str, str], tuple[array.array[int], array.array[float]]] = {}

    def add(self, resource: str, container: str, at_ms: int, amount: float) -> None:
        moments, amounts = self.samples.setdefault((resource, container), (array.array("q"), array.array("d")))
        moments.append(at_ms)
        amounts.append(amount)


_Workload = tuple[str, str, str]  # namespace, kind, name


def read_prometheus(
    metrics: Sequence[Metric],
    on_fault: OnFault = refuse,
    *,
    window_ms: int = DAY_MS,
    request_type: str | None = None,
) -> Iterator[WorkloadDataPoint]:
    """Yield a point for each workload and window, in order of time.

    The workload of a series comes from its labels: namespace, pod, container, and workload with workload_type where a
    recording rule added them; else the pod's name tells it, as Deployments, StatefulSets and others name their pods.
    ``resource_usage`` is the peak of the pod that used most, summed over its containers moment by moment.
    All samples of all files are held, 16 bytes each.

    Parameters
    ----------
    metrics
        The files; those of one history are read together.
    on_fault
        Told of each series, or sample of it, that cannot be read.
    window_ms
        How long a window is.
    request_type
        Instead of ``observed-usage``.

    Raises
    ------
    FormatError
        If a file is no such answer.
    """
    windows: dict[tuple[int, _Workload], dict[str, _Pod]] = collections.defaultdict(
        lambda: collections.defaultdict(_Pod)
    )
    for metric in metrics:
        for line, series in _series(metric.source):
            try:
                _add(series, metric.resource, windows, window_ms)
            except FieldError as error:
                on_fault(metric.source.fault(error.why, line, error.field))
    for (start, workload), pods in sorted(windows.items(), key=lambda item: item[0]):
        yield _point(start, window_ms, workload, pods, request_type)


def _series(source: Source) -> Iterator[tuple[int, Any]]:
    source.head()
    with source.open() as file:
        stream = ArrayStream(file, _PATH)
        try:
            yield from stream
        except FieldError as error:
            why = error.why if "no array" not in error.why else "is no answer to a range query: no data.result"
            raise FormatError(source.fault(why, stream.line, error.field)) from error


def _add(
    series: Any, resource: str | None, windows: Mapping[tuple[int, _Workload], dict[str, _Pod]], window_ms: int
) -> None:
    labels = series.get("metric") if isinstance(series, Mapping) else None
    if not isinstance(labels, Mapping):
        raise FieldError("metric", "is missing: a series must be an object with metric and values")
    values = series.get("values")
    if not isinstance(values, list):
        why = "is missing: this is an instant query; ask for a range (resultType matrix)"
        raise FieldError("values", why if "value" in series else "is missing")
    measured = resource or _resource(labels)
    container = str(labels.get("container") or labels.get("container_name") or "")
    if container == _PAUSE:
        return
    workload, pod = _workload(labels)
    samples = [_sample(value, at) for at, value in enumerate(values)]
    for at_ms, amount in samples:
        if not math.isnan(amount):  # a gap
            windows[window_start(at_ms, window_ms), workload][pod].add(measured, container, at_ms, amount)


def _sample(value: Any, at: int) -> tuple[int, float]:
    field = f"values[{at}]"
    if not isinstance(value, list) or len(value) != 2:
        raise FieldError(field, "must be a pair of a time in seconds and a number as text")
    moment, text = value
    if isinstance(moment, bool) or not isinstance(moment, int | float) or not 0 <= moment < _LAST_SECONDS:
        raise FieldError(field, f"has no time in epoch seconds: {shown(moment)}")
    try:
        amount = float(text)
    except (TypeError, ValueError):
        raise FieldError(field, f"is no number: {shown(text)}") from None
    if math.isinf(amount) or amount < 0:
        raise FieldError(field, f"is {shown(text)}; usage is finite and not below 0")
    return round(moment * 1000), amount


def _resource(labels: Mapping[str, Any]) -> str:
    name = str(labels.get("__name__") or "")
    if name.endswith("_total"):
        raise FieldError("metric", f"{shown(name)} is a counter: ask Prometheus for rate({name[:40]}[5m])")
    for resource in ("cpu", "memory"):
        if resource in name:
            return resource
    raise FieldError("metric", "does not say what it measures: give the file with --cpu or --memory")


def _workload(labels: Mapping[str, Any]) -> tuple[_Workload, str]:
    namespace = str(labels.get("namespace") or labels.get("kubernetes_namespace") or "")
    pod = str(labels.get("pod") or labels.get("pod_name") or "")
    named = str(labels.get("workload") or "")
    if named:
        kind = str(labels.get("workload_type") or "")
        return (namespace, _KINDS.get(kind.lower(), kind) or "Workload", named), pod or named
    if not pod:
        raise FieldError(
            "metric", "has neither a label pod nor workload: keep them in `sum by (namespace, pod, container)`"
        )
    for pattern, kind in ((_OF_DEPLOYMENT, "Deployment"), (_OF_STATEFUL_SET, "StatefulSet"), (_OF_OTHER, "Workload")):
        if found := pattern.fullmatch(pod):
            return (namespace, kind, found[1]), pod
    return (namespace, "Pod", pod), pod


def _point(
    start: int, window_ms: int, workload: _Workload, pods: Mapping[str, _Pod], request_type: str | None
) -> WorkloadDataPoint:
    usage: dict[str, float] = {}
    of_container: dict[str, dict[str, array.array[float]]] = {}
    most = 0
    for pod in pods.values():
        named = {resource for resource, container in pod.samples if container}
        totals: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
        for (resource, container), (moments, amounts) in pod.samples.items():
            # Without a container it is the pod's own total, which its containers would count again.
            if not container and resource in named:
                continue
            most = max(most, len(amounts))
            for at_ms, amount in zip(moments, amounts, strict=True):
                totals[resource][at_ms] += amount  # type: ignore[assignment]  # a sum of fractions
            of_container.setdefault(container or "main", {}).setdefault(resource, array.array("d")).extend(amounts)
        for resource, sums in totals.items():
            usage[resource] = max(usage.get(resource, 0.0), *sums.values(), 0.0)
    namespace, kind, name = workload
    described = {"kind": kind, "name": name} | ({"namespace": namespace} if namespace else {})
    containers = {
        container: {resource: summarise(samples) for resource, samples in sorted(resources.items())}
        for container, resources in sorted(of_container.items())
    }
    return window_point(
        start,
        window_ms,
        workload=described,
        usage=dict(sorted(usage.items())),
        containers=containers,
        samples=most,
        pods=len(pods),
        request_type=request_type,
    )
