"""What an answer is for: the workload whose outcome the history joins to it."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from engine_ops.api.base import ResourceModel
from engine_ops.api.fields import ObjectName
from engine_ops.api.rules import Rule, RuledModel

WorkloadKind = Literal["Job", "CronJob", "Deployment", "StatefulSet", "DaemonSet", "Pod"]

API_VERSIONS: Final = {
    "Job": "batch/v1",
    "CronJob": "batch/v1",
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Pod": "v1",
}
"""The API version of each kind that can be named."""


class WorkloadName(ResourceModel):
    """A workload in the request's own namespace."""

    kind: WorkloadKind
    """Job, CronJob, Deployment, StatefulSet, DaemonSet or Pod."""
    name: ObjectName
    """The name of the workload. It need not exist yet."""


class WorkloadRef(RuledModel, WorkloadName):
    """A workload in the request's own namespace, with its API version."""

    api_version: Literal["batch/v1", "apps/v1", "v1"] | None = None
    """batch/v1 for Job and CronJob, v1 for Pod, apps/v1 for the others; that of kind unless set."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.apiVersion) || (self.kind in ['Job', 'CronJob'] ? self.apiVersion == 'batch/v1' :"
            " self.kind == 'Pod' ? self.apiVersion == 'v1' : self.apiVersion == 'apps/v1')",
            holds=lambda ref: ref.api_version is None or ref.api_version == API_VERSIONS[ref.kind],
            message="apiVersion must be batch/v1 for Job and CronJob, v1 for Pod and apps/v1 for the other kinds",
            field="apiVersion",
        ),
    )
