"""What a reconcile needs of an object, taken out of the raw watch event without a copy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from engine_ops.kube.status_writer import Target

_EMPTY: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class RequestView:
    """One OptimizationRequest as the API server showed it.

    Parameters
    ----------
    target
        Which object, in which generation.
    deleting
        Whether it is on its way out.
    spec, status
        As they stand in the object; never changed.
    """

    target: Target
    deleting: bool
    spec: Mapping[str, Any]
    status: Mapping[str, Any]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> RequestView:
        """Return the view of an object's JSON."""
        metadata = body["metadata"]
        target = Target(metadata["namespace"], metadata["name"], metadata["uid"], metadata.get("generation", 0))
        return cls(
            target=target,
            deleting="deletionTimestamp" in metadata,
            spec=body.get("spec") or _EMPTY,
            status=body.get("status") or _EMPTY,
        )

    @property
    def observed_generation(self) -> int:
        """The generation that the status answers; -1 before the first answer."""
        observed: int = self.status.get("observedGeneration", -1)
        return observed

    @property
    def answers_its_spec(self) -> bool:
        """Whether the status is for the spec as it is now."""
        return self.observed_generation == self.target.generation
