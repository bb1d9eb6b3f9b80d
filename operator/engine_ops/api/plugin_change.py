"""What of an OptimizerPlugin people change, by whichever door, and who may be in the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class PluginChange:
    """What of a plugin is to be changed; None for what is not.

    Parameters
    ----------
    enabled, priority, config
        As in the spec of an OptimizerPlugin. ``config`` replaces the whole.
    """

    enabled: bool | None = None
    priority: int | None = None
    config: Mapping[str, Any] | None = None

    def values(self) -> dict[str, Any]:
        """Return what is to be changed, by its name in the spec."""
        chosen = {"enabled": self.enabled, "priority": self.priority, "config": self.config}
        return {name: value for name, value in chosen.items() if value is not None}


class PluginManaged(Exception):  # noqa: N818 - what it is called in HTTP
    """Another manager owns what is to be changed, and would change it back.

    Parameters
    ----------
    manager
        Its name, of ``metadata.managedFields``.
    fields
        What it owns of what is to be changed, such as ``spec.enabled``.
    """

    def __init__(self, manager: str, fields: Sequence[str]) -> None:
        self.manager = manager
        self.fields = tuple(fields)
        are, them = ("is", "it") if len(self.fields) == 1 else ("are", "them")
        super().__init__(f"{', '.join(self.fields)} {are} managed by {manager}, which would change {them} back")
