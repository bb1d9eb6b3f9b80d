"""Whose pods are whose: owners, templates, selectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from engine_ops.engine.scheduling.selectors import Requirement, Selector, matches
from engine_ops.history.outcomes.records import JobRecord, PodRecord

_TEMPLATE_HASH: Final = "pod-template-hash"
_MAX_TEXT: Final = 200


class Workload(NamedTuple):
    """What a pod belongs to in the end; ``uid`` is None where the pod does not tell."""

    kind: str
    name: str
    uid: str | None


def workload_of(pod: PodRecord, jobs: Mapping[str, JobRecord] | None = None) -> Workload:
    """Return the workload of a pod.

    A ReplicaSet named ``<name>-<pod-template-hash>`` is the Deployment's ``<name>``; a Job is its CronJob's, where it
    has one; other owners are workloads themselves, and so is a pod without one.

    Parameters
    ----------
    pod
        The pod.
    jobs
        Of its namespace, by uid. A Job that is not in it stands for itself.
    """
    owner = pod.owner
    if owner is None:
        return Workload("Pod", pod.name, pod.uid)
    if owner.kind == "ReplicaSet":
        template = pod.labels.get(_TEMPLATE_HASH)
        if template and owner.name.endswith(f"-{template}"):
            return Workload("Deployment", owner.name[: -len(template) - 1], None)
    if owner.kind == "Job":
        job = (jobs or {}).get(owner.uid)
        if job is not None and job.owner is not None and job.owner.kind == "CronJob":
            return Workload("CronJob", job.owner.name, job.owner.uid)
    return Workload(owner.kind, owner.name, owner.uid)


class PodIndex:
    """The pods of a namespace, to be found by what they belong to and by their labels.

    Parameters
    ----------
    pods
        All of them.
    jobs
        Of the namespace, by uid.
    """

    def __init__(self, pods: Sequence[PodRecord], jobs: Mapping[str, JobRecord] | None = None) -> None:
        self.pods = pods
        self._by_name = {pod.name: pod for pod in pods}
        self._by_job: dict[str, list[PodRecord]] = {}
        self._by_workload: dict[tuple[str, str], list[tuple[str | None, PodRecord]]] = {}
        self._by_label: dict[tuple[str, str], list[PodRecord]] | None = None
        for pod in pods:
            if pod.owner is not None and pod.owner.kind == "Job":
                self._by_job.setdefault(pod.owner.uid, []).append(pod)
            workload = workload_of(pod, jobs)
            self._by_workload.setdefault((workload.kind, workload.name), []).append((workload.uid, pod))

    def named(self, name: str) -> PodRecord | None:
        """Return a pod."""
        return self._by_name.get(name)

    def of_job(self, uid: str) -> list[PodRecord]:
        """Return the pods of a Job."""
        return self._by_job.get(uid, [])

    def of_workload(self, kind: str, name: str, uid: str | None) -> list[PodRecord]:
        """Return the pods of a workload; where both uids are known, they must be the same."""
        pods = self._by_workload.get((kind, name), [])
        return [pod for other, pod in pods if uid is None or other is None or other == uid]

    def workloads(self) -> Iterable[tuple[Workload, list[PodRecord]]]:
        """Go through all workloads and their pods; several of a name that followed one another are several."""
        for (kind, name), pods in self._by_workload.items():
            by_uid: dict[str | None, list[PodRecord]] = {}
            for uid, pod in pods:
                by_uid.setdefault(uid, []).append(pod)
            for uid, own in by_uid.items():
                yield Workload(kind, name, uid), own

    def chosen(self, selector: Selector) -> list[PodRecord]:
        """Return the pods that a selector chooses."""
        return [pod for pod in self._candidates(selector) if matches(selector, pod.labels)]

    def _candidates(self, selector: Selector) -> Sequence[PodRecord]:
        # A thousand selectors over thousands of pods: each looks only at the pods with the rarest of its labels.
        if self._by_label is None:
            self._by_label = {}
            for pod in self.pods:
                for label in pod.labels.items():
                    self._by_label.setdefault(label, []).append(pod)
        fewest: Sequence[PodRecord] = self.pods
        for key, operator, values in selector:
            if operator == "In" and len(values) == 1:
                found = self._by_label.get((key, values[0]), [])
                if len(found) < len(fewest):
                    fewest = found
        return fewest


def selector_of(data: Any) -> Selector | None:
    """Return a LabelSelector in one spelling.

    Parameters
    ----------
    data
        As JSON: ``matchLabels`` and ``matchExpressions``.

    Returns
    -------
    Sorted requirements; None if it is no LabelSelector, which chooses nothing.
    """
    if not isinstance(data, Mapping):
        return None
    requirements: set[Requirement] = set()
    try:
        for key, value in (data.get("matchLabels") or {}).items():
            requirements.add((str(key), "In", (str(value),)))
        for expression in data.get("matchExpressions") or ():
            operator = expression["operator"]
            if operator not in {"In", "NotIn", "Exists", "DoesNotExist"}:
                return None
            values = tuple(sorted({str(value) for value in expression.get("values") or ()}))
            requirements.add((str(expression["key"]), operator, values))
    except (AttributeError, KeyError, TypeError):
        return None
    return tuple(sorted(requirements))


def selector_text(data: Any) -> str:
    """Return a LabelSelector as kubectl writes it, the same for every spelling of it.

    It is the workload's name in ``metadata.workload`` where a selector chose it, and so part of its key.

    >>> selector_text({"matchLabels": {"tier": "web", "app": "shop"}})
    'app=shop,tier=web'
    """
    parts = []
    for key, operator, values in selector_of(data) or ():
        match operator:
            case "In" if len(values) == 1:
                parts.append(f"{key}={values[0]}")
            case "In":
                parts.append(f"{key} in ({','.join(values)})")
            case "NotIn":
                parts.append(f"{key} notin ({','.join(values)})")
            case "Exists":
                parts.append(key)
            case _:
                parts.append(f"!{key}")
    return ",".join(parts)[:_MAX_TEXT]
