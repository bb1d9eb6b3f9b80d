"""What containers use now, from metrics.k8s.io, where the cluster serves it.

The API is not Kubernetes' own: a server beside it (metrics-server, prometheus-adapter) answers, and the API server
passes the question on. So there are three answers that are no usage: no such API (404), registered but not answering
(503, which may be over in a moment), and the API server itself away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from engine_ops.history.outcomes.records import UsageSample
from engine_ops.history.outcomes.source import SourceError
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError
from engine_ops.kube.outcome_errors import to_source_error
from engine_ops.kube.workload_records import UNREADABLE, amounts, epoch_ms

GROUP: Final = "metrics.k8s.io"
VERSION: Final = "v1beta1"
NOT_SERVED_SECONDS: Final = 300.0
"""For so long a cluster that serves no metrics is not asked again."""
_RIGHT: Final = f"list pods.{GROUP}"


class _Metadata(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""


class _Container(msgspec.Struct, gc=False):
    name: str
    usage: dict[str, str | int | float] | None = None


class _PodMetrics(msgspec.Struct, gc=False):
    metadata: _Metadata
    timestamp: str | None = None
    containers: list[_Container] | None = None


class _PodMetricsList(msgspec.Struct, gc=False):
    items: list[_PodMetrics] | None = None


_LIST: Final = msgspec.json.Decoder(_PodMetricsList)


class PodMetrics:
    """Reads metrics.k8s.io.

    Parameters
    ----------
    connection
        To the API server.
    not_served_seconds
        For so long "not served" is remembered.
    clock
        Monotonic, in seconds.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        not_served_seconds: float = NOT_SERVED_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._not_served_seconds = not_served_seconds
        self._clock = clock
        self._ask_again_at = float("-inf")

    async def usage(self, namespace: str) -> Sequence[UsageSample] | None:
        """Return what the containers of a namespace use; None where the cluster serves no metrics.k8s.io.

        Raises
        ------
        SourceError
            If it is served and cannot be read now.
        """
        if self._clock() < self._ask_again_at:
            return None
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/pods"
        try:
            body = await self._connection.request("GET", path)
        except ApiError as error:
            if error.status == 404:
                self._ask_again_at = self._clock() + self._not_served_seconds
                return None
            if error.status == 503:
                raise SourceError(
                    f"{GROUP} is registered but does not answer now (see kubectl get apiservice {VERSION}.{GROUP}): "
                    f"{error.message}"
                ) from error
            raise to_source_error(error, _RIGHT, namespace) from error
        except (UnavailableError, ConnectError) as error:
            raise to_source_error(error, _RIGHT, namespace) from error
        try:
            return usage_samples(body, namespace)
        except UNREADABLE as error:
            raise SourceError(f"what {GROUP} says of namespace {namespace} cannot be read: {error}") from error


def usage_samples(body: bytes, namespace: str) -> list[UsageSample]:
    """Return the samples of a PodMetricsList.

    Parameters
    ----------
    body
        Its JSON.
    namespace
        Of pods that do not say theirs.

    Returns
    -------
    list of UsageSample
        One a container, cpu in cores and memory in bytes. ``at_ms`` is the end of the window that the usage was
        measured over, by the clock of who measured. Containers without a readable amount are left out, and pods
        without a time: such a sample could not be told from an old one.

    Raises
    ------
    msgspec.MsgspecError
        If it is none.
    """
    samples = []
    for pod in _LIST.decode(body).items or ():
        at_ms = epoch_ms(pod.timestamp)
        if at_ms is None:
            continue
        for container in pod.containers or ():
            usage = amounts(container.usage)
            if usage:
                samples.append(
                    UsageSample(pod.metadata.namespace or namespace, pod.metadata.name, container.name, at_ms, usage)
                )
    return samples
