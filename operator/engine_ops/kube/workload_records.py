"""From the API server's JSON of Jobs, pods and workloads to the records that outcomes are made of.

Straight from the bytes: fields that do not matter are skipped without being built. A container's ``resources`` are
looked up by their bytes, because thousands of pods have the same few.

Plain init containers end before the work begins, so that they are no part of what a pod asks for; sidecars (init
containers with ``restartPolicy: Always``) run beside the others and count as containers.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from engine_ops.api.quantity import parse_quantity
from engine_ops.history.outcomes.records import (
    ContainerSpec,
    ContainerStatus,
    JobRecord,
    Owner,
    PodRecord,
    WorkloadRecord,
)

Buffer = bytes | bytearray | memoryview | msgspec.Raw

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What the functions of this module raise for bytes that are not what they should be."""

OOM_KILLED: Final = "OOMKilled"
_ABSENT: Final = msgspec.Raw(b"")
_CACHED: Final = 4096
_DISRUPTED: Final = "DisruptionTarget"
_ENDED: Final = frozenset({"Succeeded", "Failed"})


class _OwnerReference(msgspec.Struct, gc=False):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class _Metadata(msgspec.Struct, rename="camel", gc=False):
    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    owner_references: list[_OwnerReference] | None = None


class _Condition(msgspec.Struct, rename="camel", gc=False):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class _Container(msgspec.Struct, rename="camel", gc=False):
    name: str = ""
    resources: msgspec.Raw = _ABSENT
    restart_policy: str | None = None


class _PodSpec(msgspec.Struct, rename="camel", gc=False):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None


class _Template(msgspec.Struct, gc=False):
    spec: _PodSpec | None = None


class _Terminated(msgspec.Struct, rename="camel", gc=False):
    exit_code: int = 0
    reason: str | None = None
    finished_at: str | None = None


class _State(msgspec.Struct, gc=False):
    terminated: _Terminated | None = None


class _ContainerStatus(msgspec.Struct, rename="camel", gc=False):
    name: str = ""
    restart_count: int = 0
    state: _State | None = None
    last_state: _State | None = None


class _PodStatus(msgspec.Struct, rename="camel", gc=False):
    phase: str = ""
    reason: str | None = None
    start_time: str | None = None
    conditions: list[_Condition] | None = None
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None


class _Pod(msgspec.Struct, gc=False):
    metadata: _Metadata
    spec: _PodSpec | None = None
    status: _PodStatus | None = None


class _ListMetadata(msgspec.Struct, gc=False):
    continue_token: str = msgspec.field(default="", name="continue")


class _PodList(msgspec.Struct, gc=False):
    metadata: _ListMetadata
    items: list[_Pod] | None = None


class _JobSpec(msgspec.Struct, gc=False):
    template: _Template | None = None


class _JobStatus(msgspec.Struct, rename="camel", gc=False):
    start_time: str | None = None
    completion_time: str | None = None
    conditions: list[_Condition] | None = None


class _Job(msgspec.Struct, gc=False):
    metadata: _Metadata
    spec: _JobSpec | None = None
    status: _JobStatus | None = None


class _WorkloadSpec(msgspec.Struct, rename="camel", gc=False):
    replicas: int | None = None
    template: _Template | None = None


class _WorkloadStatus(msgspec.Struct, rename="camel", gc=False):
    ready_replicas: int | None = None
    desired_number_scheduled: int | None = None
    number_ready: int | None = None


class _Workload(msgspec.Struct, gc=False):
    metadata: _Metadata
    spec: _WorkloadSpec | None = None
    status: _WorkloadStatus | None = None


class _Requirements(msgspec.Struct, gc=False):
    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


_POD_LIST: Final = msgspec.json.Decoder(_PodList)
_JOB: Final = msgspec.json.Decoder(_Job)
_WORKLOAD: Final = msgspec.json.Decoder(_Workload)
_REQUIREMENTS: Final[msgspec.json.Decoder[_Requirements | None]] = msgspec.json.Decoder(_Requirements | None)


def job_record(raw: Buffer) -> JobRecord:
    """Return the record of a batch/v1 Job.

    Parameters
    ----------
    raw
        Its JSON.

    Raises
    ------
    msgspec.MsgspecError
        If it is none. A Job without status has just not begun.
    """
    job = _JOB.decode(raw)
    metadata, status = job.metadata, job.status or _JobStatus()
    finished_ms: int | None = None
    succeeded: bool | None = None
    reason = message = ""
    # FailureTarget and SuccessCriteriaMet come before: the Job's pods may run still.
    for condition in status.conditions or ():
        if condition.status != "True" or condition.type not in {"Complete", "Failed"}:
            continue
        succeeded = condition.type == "Complete"
        finished_ms = epoch_ms(condition.last_transition_time)
        if succeeded:
            finished_ms = epoch_ms(status.completion_time) or finished_ms
        else:
            reason, message = condition.reason or "", condition.message or ""
    return JobRecord(
        uid=metadata.uid,
        namespace=metadata.namespace,
        name=metadata.name,
        generation=metadata.generation,
        created_ms=epoch_ms(metadata.creation_timestamp) or 0,
        owner=_owner(metadata),
        started_ms=epoch_ms(status.start_time),
        finished_ms=finished_ms,
        succeeded=succeeded,
        reason=reason,
        message=message,
        specs=_specs(job.spec.template if job.spec else None),
        labels=metadata.labels or {},
    )


def pod_page(body: bytes) -> tuple[list[PodRecord], str]:
    """Return the pods of one page of a list.

    Parameters
    ----------
    body
        A v1.PodList.

    Returns
    -------
    pods
        In the server's order.
    continue_token
        Asks for the next page; empty on the last one.

    Raises
    ------
    msgspec.MsgspecError
        If it is none.
    """
    page = _POD_LIST.decode(body)
    return [_pod_record(pod) for pod in page.items or ()], page.metadata.continue_token


def workload_record(kind: str, raw: Buffer) -> WorkloadRecord:
    """Return the record of a Deployment, StatefulSet or DaemonSet.

    Parameters
    ----------
    kind
        Which of them. A DaemonSet's ``replicas`` are the nodes that it wants.
    raw
        Its JSON.

    Raises
    ------
    msgspec.MsgspecError
        If it is none of them.
    """
    workload = _WORKLOAD.decode(raw)
    spec, status = workload.spec or _WorkloadSpec(), workload.status or _WorkloadStatus()
    replicas, ready = spec.replicas, status.ready_replicas or 0
    if kind == "DaemonSet":
        replicas, ready = status.desired_number_scheduled, status.number_ready or 0
    return WorkloadRecord(
        uid=workload.metadata.uid,
        kind=kind,
        namespace=workload.metadata.namespace,
        name=workload.metadata.name,
        specs=_specs(spec.template),
        replicas=replicas,
        ready=ready,
    )


def epoch_ms(time: str | None) -> int | None:
    """Return a time of the API (RFC 3339, with fractions or without) in epoch milliseconds; None for none.

    >>> epoch_ms("1970-01-01T00:00:01Z"), epoch_ms("1970-01-01T00:00:00.250000Z"), epoch_ms(None), epoch_ms("soon")
    (1000, 250, None, None)
    """
    return None if time is None else _epoch_ms(time)


def amounts(quantities: Mapping[str, str | int | float] | None) -> dict[str, float]:
    """Return a resource list in base units (cores, bytes); what cannot be read is left out.

    >>> amounts({"cpu": "250m", "memory": "1Ki", "broken": "?"})
    {'cpu': 0.25, 'memory': 1024.0}
    """
    read = {}
    for resource, quantity in (quantities or {}).items():
        try:
            read[resource] = parse_quantity(quantity)
        except ValueError:
            continue  # an amount that the API server would refuse: nothing is known of it
    return read


def _pod_record(pod: _Pod) -> PodRecord:
    metadata, spec, status = pod.metadata, pod.spec or _PodSpec(), pod.status or _PodStatus()
    containers = status.container_statuses or ()
    statuses = [status for container in containers for status in _statuses(container)]
    if status.init_container_statuses:
        sidecars = {container.name for container in spec.init_containers or () if _is_sidecar(container)}
        inits = [one for container in status.init_container_statuses for one in _statuses(container)]
        # An init container that ended well says nothing of the work; one that failed is why it did not begin.
        statuses += [init for init in inits if init.name in sidecars or init.restarts or init.exit_code]
    return PodRecord(
        uid=metadata.uid,
        namespace=metadata.namespace,
        name=metadata.name,
        labels=metadata.labels or {},
        owner=_owner(metadata),
        phase=status.phase,
        reason=status.reason or _disruption(status.conditions),
        started_ms=epoch_ms(status.start_time),
        finished_ms=_pod_finished_ms(status, containers) if status.phase in _ENDED else None,
        specs=_pod_specs(spec),
        statuses=tuple(statuses),
        deleting=metadata.deletion_timestamp is not None,
    )


def _pod_finished_ms(status: _PodStatus, containers: Iterable[_ContainerStatus]) -> int | None:
    ends = [container.state.terminated.finished_at for container in containers
            if container.state and container.state.terminated]  # fmt: skip
    known = [end for end in map(epoch_ms, ends) if end]
    if not known:
        # A pod that was evicted before it ran has no container states; its conditions say when it was given up.
        known = [end for c in status.conditions or () if (end := epoch_ms(c.last_transition_time))]
    return max(known, default=None)


def _disruption(conditions: Iterable[_Condition] | None) -> str:
    """Why a pod was taken away, where ``status.reason`` does not say: preempted, its node drained or gone."""
    for condition in conditions or ():
        if condition.type == _DISRUPTED and condition.status == "True":
            return condition.reason or _DISRUPTED
    return ""


def _statuses(container: _ContainerStatus) -> list[ContainerStatus]:
    """Return the end before the last one too, where both are told: an OOM kill before a run that ended well."""
    states = (container.last_state, container.state)
    ends = [state.terminated for state in states if state is not None and state.terminated is not None]
    if not ends:
        return [ContainerStatus(name=container.name, restarts=container.restart_count)]
    return [
        ContainerStatus(
            name=container.name,
            restarts=container.restart_count,
            exit_code=ended.exit_code,
            reason=ended.reason or "",
            oom_killed=ended.reason == OOM_KILLED,
            finished_ms=epoch_ms(ended.finished_at),
        )
        for ended in ends
    ]


def _owner(metadata: _Metadata) -> Owner | None:
    for reference in metadata.owner_references or ():
        if reference.controller:
            return Owner(reference.kind, reference.name, reference.uid)
    return None


def _specs(template: _Template | None) -> tuple[ContainerSpec, ...]:
    return _pod_specs(template.spec) if template and template.spec else ()


def _pod_specs(spec: _PodSpec) -> tuple[ContainerSpec, ...]:
    containers = list(spec.containers or ())
    containers += filter(_is_sidecar, spec.init_containers or ())
    return tuple(_container_spec(container.name, bytes(container.resources)) for container in containers)


def _is_sidecar(container: _Container) -> bool:
    return container.restart_policy == "Always"


@functools.lru_cache(maxsize=_CACHED)
def _container_spec(name: str, resources: bytes) -> ContainerSpec:
    requirements = _REQUIREMENTS.decode(resources) if resources else None
    if requirements is None:
        return ContainerSpec(name)
    limits = amounts(requirements.limits)
    # The API server's default for pods, which templates do not have: a request absent beside a limit is the limit.
    return ContainerSpec(name, {**limits, **amounts(requirements.requests)}, limits)


def _parse_time(time: str) -> int | None:
    try:
        moment = datetime.datetime.fromisoformat(time)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return round(moment.timestamp() * 1000)


# Pods that started together have the same few times, and each pod has one several times.
_epoch_ms: Final[Callable[[str], int | None]] = functools.lru_cache(maxsize=_CACHED)(_parse_time)
