"""How plugins are changed over HTTP, and why a change may be refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from engine_ops.api.plugin_change import PluginChange
from engine_ops.server.callers import Caller


class PluginNotFound(Exception):  # noqa: N818 - what it is called in HTTP
    """There is no plugin of this name."""


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
