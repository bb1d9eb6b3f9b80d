"""What the controller of plugins needs of an object, taken out of the raw watch event without a copy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from engine_ops.kube.paths import PLUGIN
from engine_ops.kube.status_writer import Target

_EMPTY: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class PluginView:
    """One OptimizerPlugin as the API server showed it.

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
    def of(cls, body: Mapping[str, Any]) -> PluginView:
        """Return the view of an object's JSON."""
        metadata = body["metadata"]
        return cls(
            target=Target("", metadata["name"], metadata["uid"], metadata.get("generation", 0), PLUGIN),
            deleting="deletionTimestamp" in metadata,
            spec=body.get("spec") or _EMPTY,
            status=body.get("status") or _EMPTY,
        )
