"""What is known of workloads, pods and usage, without the API objects that it was read from.

Times are epoch milliseconds; cpu is in cores, memory in bytes, other resources in their own unit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True)
class Owner:
    """What a pod or Job belongs to (its controller)."""

    kind: str
    name: str
    uid: str


@dataclasses.dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What a container asks for: ``requests`` and ``limits`` by resource."""

    name: str
    requests: Mapping[str, float] = dataclasses.field(default_factory=dict)
    limits: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class ContainerStatus:
    """What became of a container of one pod.

    Parameters
    ----------
    name
        Of the container.
    restarts
        How often it was started again.
    exit_code, reason
        Of its last termination; None and empty before one.
    oom_killed
        Whether its last termination was an OOM kill.
    finished_ms
        When that was.
    """

    name: str
    restarts: int = 0
    exit_code: int | None = None
    reason: str = ""
    oom_killed: bool = False
    finished_ms: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class PodRecord:
    """One pod.

    ``phase`` is Kubernetes' own, ``started_ms`` its startTime, ``finished_ms`` its last container's end, ``deleting``
    whether somebody has deleted it (how its containers end then is no failure of theirs). ``statuses`` holds a
    container that has ended twice, the earlier end first.
    """

    uid: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    owner: Owner | None
    phase: str
    reason: str
    started_ms: int | None
    finished_ms: int | None
    specs: tuple[ContainerSpec, ...]
    statuses: tuple[ContainerStatus, ...]
    deleting: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class JobRecord:
    """One Job.

    Parameters
    ----------
    generation, created_ms
        From its metadata.
    owner
        Its CronJob, if it has one.
    started_ms
        Its startTime.
    finished_ms
        Its completionTime, or when its condition Failed became true; None while it runs.
    succeeded
        None while it runs.
    reason, message
        Of its condition Failed; empty otherwise.
    specs
        Of the containers of its pod template.
    """

    uid: str
    namespace: str
    name: str
    generation: int
    created_ms: int
    owner: Owner | None
    started_ms: int | None
    finished_ms: int | None
    succeeded: bool | None
    reason: str
    message: str
    specs: tuple[ContainerSpec, ...]
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class WorkloadRecord:
    """A Deployment, StatefulSet or DaemonSet; ``replicas`` as asked for, ``ready`` as they are."""

    uid: str
    kind: str
    namespace: str
    name: str
    specs: tuple[ContainerSpec, ...]
    replicas: int | None = None
    ready: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class UsageSample:
    """What one container of a pod used at a moment, by resource, as metrics.k8s.io has it."""

    namespace: str
    pod: str
    container: str
    at_ms: int
    usage: Mapping[str, float]
