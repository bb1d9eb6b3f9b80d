"""What of a plugin is changed over HTTP, and why it may be refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from engine_ops.server.callers import Caller


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


class PluginNotFound(Exception):  # noqa: N818 - what it is called in HTTP
    """There is no plugin of this name."""


class PluginManaged(Exception):  # noqa: N818
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


class PluginChangeRefused(Exception):  # noqa: N818
    """The change is not allowed, or not valid.

    Parameters
    ----------
    status
        Of HTTP: 400, 401, 403, 409, 413, 422, 429.
    message
        The API server's sentence.
    faults
        Field path and sentence each.
    retry_after_seconds
        What the API server asks to wait before the next try; None where it says nothing.
    """

    def __init__(
        self,
        status: int,
        message: str,
        faults: Sequence[tuple[str, str]] = (),
        *,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.status = status
        self.faults = tuple(faults)
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class PluginSwitch(Protocol):
    """Changes a plugin's settings in the caller's name. Runs on the API's loop."""

    async def change(self, caller: Caller, name: str, change: PluginChange, *, force: bool) -> None:
        """Change a plugin. What is so already is no error.

        Parameters
        ----------
        caller
            In whose name.
        name
            Of the plugin.
        change
            What.
        force
            Also where another manager owns the field.

        Raises
        ------
        PluginNotFound, PluginManaged, PluginChangeRefused
            If it is not done.
        AccessUnavailable
            If the API server cannot be reached.
        """
