"""What a reconcile needs of an object, taken out of the raw watch event without a copy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from engine_ops.kube.paths import PLUGIN, REQUEST, ResourceKind
from engine_ops.kube.target import Target

_EMPTY: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class ObjectView:
    """One object of ours as the API server showed it.

    Parameters
    ----------
    target
        Which object, in which generation.
    deleting
        Whether it is on its way out.
    spec, status
        As they stand in the object; never changed.
    """

    kind: ClassVar[ResourceKind]

    target: Target
    deleting: bool
    spec: Mapping[str, Any]
    status: Mapping[str, Any]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Return the view of an object's JSON."""
        metadata = body["metadata"]
        name, uid, generation = metadata["name"], metadata["uid"], metadata.get("generation", 0)
        return cls(
            target=Target(metadata.get("namespace", ""), name, uid, generation, cls.kind),
            deleting="deletionTimestamp" in metadata,
            spec=body.get("spec") or _EMPTY,
            status=body.get("status") or _EMPTY,
        )


class RequestView(ObjectView):
    """One OptimizationRequest."""

    __slots__ = ()
    kind = REQUEST

    @property
    def observed_generation(self) -> int:
        """The generation that the status answers; -1 before the first answer."""
        observed: int = self.status.get("observedGeneration", -1)
        return observed

    @property
    def answers_its_spec(self) -> bool:
        """Whether the status is for the spec as it is now."""
        return self.observed_generation == self.target.generation


class PluginView(ObjectView):
    """One OptimizerPlugin; it has no namespace."""

    __slots__ = ()
    kind = PLUGIN
