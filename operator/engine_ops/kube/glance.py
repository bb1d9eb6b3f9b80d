"""What there is of the operator in a cluster, read with the user's rights: each part by itself, or why it is not."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import re
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError
from engine_ops.kube.lease import LEASE_SECONDS
from engine_ops.kube.operator_status import ToldStatus, read_status
from engine_ops.kube.reading import list_objects

NAME: Final = "engine-ops"
"""Of the Deployment, of its ServiceAccount and of the Lease, as the manifests and the operator have it."""
CONTAINER: Final = "operator"
PODS: Final = "app.kubernetes.io/name=engine-ops,app.kubernetes.io/component=operator"

_VERSION: Final = re.compile(r"v?(\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?)")
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)  # slots and Generic do not go together in Python 3.11
class Part(Generic[_T]):
    """Something that was asked for.

    Parameters
    ----------
    value
        What came; None where it is not there, or could not be read.
    error
        Why it could not be read.
    """

    value: _T | None = None
    error: ApiError | None = None

    @property
    def missing(self) -> bool:
        """Whether it is known not to be there."""
        return self.value is None and self.error is None


async def part_of(asked: Awaitable[_T]) -> Part[_T]:
    """Wait for one part; what the API server refuses is kept, and 404 is an answer.

    Raises
    ------
    UnavailableError
        If the API server cannot be reached.
    """
    try:
        return Part(await asked)
    except ApiError as error:
        return Part() if error.status == 404 else Part(error=error)


@dataclasses.dataclass(frozen=True, slots=True)
class LeaseGlance:
    """The Lease.

    Parameters
    ----------
    holder
        Empty for nobody.
    renewed_at
        RFC 3339; empty for never.
    duration_seconds
        For so long after that it is held.
    version
        The object's resourceVersion; it changes with each renewal.
    """

    holder: str
    renewed_at: str
    duration_seconds: int
    version: str

    @classmethod
    def of(cls, lease: Mapping[str, Any]) -> LeaseGlance:
        """Return what matters of a ``coordination.k8s.io/v1`` Lease."""
        spec = lease.get("spec") or {}
        return cls(
            holder=spec.get("holderIdentity") or "",
            renewed_at=spec.get("renewTime") or "",
            duration_seconds=spec.get("leaseDurationSeconds") or LEASE_SECONDS,
            version=lease["metadata"].get("resourceVersion", ""),
        )

    def age_seconds(self, now: datetime.datetime) -> float | None:
        """Return how long ago it was renewed by this machine's clock; None where it never was."""
        try:
            return (now - datetime.datetime.fromisoformat(self.renewed_at)).total_seconds()
        except (ValueError, TypeError):
            return None

    def fresh(self, now: datetime.datetime) -> bool:
        """Whether somebody holds it, by this machine's clock."""
        age = self.age_seconds(now)
        return bool(self.holder) and age is not None and age <= self.duration_seconds


@dataclasses.dataclass(frozen=True, slots=True)
class DeploymentGlance:
    """The operator's Deployment.

    Parameters
    ----------
    image
        Of the operator's container.
    arguments
        Of the same, with the Pod's namespace filled in.
    service_account
        That the Pods run under.
    wanted, ready
        How many Pods.
    created_at
        RFC 3339.
    message
        Why it is not available, in Kubernetes' words; empty where it is.
    """

    image: str
    arguments: tuple[str, ...]
    service_account: str
    wanted: int
    ready: int
    created_at: str
    message: str

    @classmethod
    def of(cls, deployment: Mapping[str, Any], namespace: str) -> DeploymentGlance:
        """Return what matters of an ``apps/v1`` Deployment."""
        spec, status = deployment["spec"], deployment.get("status") or {}
        pod = spec["template"]["spec"]
        containers = pod["containers"]
        container = next((one for one in containers if one["name"] == CONTAINER), containers[0])
        told = [one for one in status.get("conditions") or () if one.get("type") == "Available"]
        failed = [one for one in status.get("conditions") or () if one.get("type") == "ReplicaFailure"]
        unavailable = [one for one in (*failed, *told) if (one["type"] == "Available") != (one["status"] == "True")]
        return cls(
            image=container.get("image", ""),
            arguments=tuple(one.replace("$(POD_NAMESPACE)", namespace) for one in container.get("args") or ()),
            service_account=pod.get("serviceAccountName") or "default",
            wanted=spec.get("replicas", 1),
            ready=status.get("readyReplicas") or 0,
            created_at=deployment["metadata"].get("creationTimestamp", ""),
            message=unavailable[0].get("message", "") if unavailable else "",
        )

    @property
    def version(self) -> str | None:
        """The version in the image's tag; None where the tag is none, or the image is named by its digest alone."""
        tag = self.image.partition("@")[0].rpartition("/")[2].partition(":")[2]
        found = _VERSION.fullmatch(tag)
        return found[1] if found else None

    @property
    def watched(self) -> tuple[str, ...]:
        """The namespaces that it is told to watch; empty for all."""
        return self.values_of("--namespace", "-n")

    def values_of(self, *options: str) -> tuple[str, ...]:
        """Return the values of an option in its arguments, in order."""
        found = []
        for at, word in enumerate(self.arguments):
            name, equals, value = word.partition("=")
            if name in options:
                found.append(value if equals else "".join(self.arguments[at + 1 : at + 2]))
        return tuple(found)

    def has(self, option: str) -> bool:
        """Whether an option is among its arguments, with or without a value."""
        return any(word.partition("=")[0] == option for word in self.arguments)


@dataclasses.dataclass(frozen=True, slots=True)
class Glance:
    """The operator at a glance.

    Parameters
    ----------
    namespace
        The operator's.
    deployment, pods, lease
        What there is.
    told
        What the operator says of itself.
    """

    namespace: str
    deployment: Part[DeploymentGlance]
    pods: Part[list[dict[str, Any]]]
    lease: Part[LeaseGlance]
    told: Part[ToldStatus]

    @property
    def conditions(self) -> Part[list[dict[str, Any]]]:
        """What the operator says of its history."""
        told = self.told
        return Part(None if told.value is None else told.value.conditions, told.error)

    @property
    def version(self) -> str | None:
        """The operator's version: what it says itself, else what its image's tag says; None where neither does."""
        deployment, told = self.deployment.value, self.told.value
        if deployment is not None and deployment.has("--no-history"):
            return deployment.version  # who keeps no history writes no status: what is there is of another
        if told is not None and told.version is not None:
            return told.version
        return None if deployment is None else deployment.version


async def look(connection: Connection, namespace: str) -> Glance:
    """Look at the operator of a namespace.

    Raises
    ------
    UnavailableError
        If the API server cannot be reached.
    """
    deployment, pods, lease, told = await asyncio.gather(
        part_of(_read_deployment(connection, namespace)),
        part_of(list_objects(connection, f"/api/v1/namespaces/{namespace}/pods", PODS)),
        part_of(read_lease(connection, namespace)),
        part_of(read_status(connection, namespace)),
    )
    return Glance(namespace, deployment, pods, lease, told)


async def read_lease(connection: Connection, namespace: str) -> LeaseGlance:
    """Return the operator's Lease. Raises as `Connection.get` does."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{NAME}"
    return LeaseGlance.of(await connection.get(path))


async def _read_deployment(connection: Connection, namespace: str) -> DeploymentGlance:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{NAME}"
    return DeploymentGlance.of(await connection.get(path), namespace)


def pod_troubles(pods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with Pods, a sentence each: waiting containers, and those that ended last time."""
    troubles = []
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status") or {}
        for container in status.get("containerStatuses") or ():
            waiting = (container.get("state") or {}).get("waiting")
            last = (container.get("lastState") or {}).get("terminated")
            where = f"{name}, container {container['name']}"
            if waiting:
                ended = (
                    f"; before that it ended with exit code {last['exitCode']} ({last.get('reason')})" if last else ""
                )
                troubles.append(f"{where}: {waiting.get('reason')}: {waiting.get('message', '')}{ended}".rstrip(": "))
            elif not container.get("ready", True):
                troubles.append(f"{where} is not ready (restarts: {container.get('restartCount', 0)})")
        troubles += [
            f"{name} is not scheduled: {condition.get('message', '')}"
            for condition in status.get("conditions") or ()
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False"
        ]
    return troubles
