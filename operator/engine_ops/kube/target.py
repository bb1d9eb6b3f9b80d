"""Which object something is for. Apart from what writes it, so that a process without Kubernetes loads no client."""

from __future__ import annotations

import dataclasses

from engine_ops.kube.paths import REQUEST, ResourceKind, object_path


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The object a status is for: this uid in this generation, and no other.

    Parameters
    ----------
    namespace
        Empty for a cluster-scoped object.
    name, uid, generation
        As in its metadata.
    kind
        Which of our own.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    kind: ResourceKind = REQUEST

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else f"{self.kind.kind} {self.name}"

    def path(self, subresource: str = "") -> str:
        """Return the object's path, or that of a subresource."""
        return object_path(self.kind, self.namespace, self.name, subresource)
