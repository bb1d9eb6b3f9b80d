"""Changes plugins with the caller's own token: who may do it is the API server's business, and so is its audit log."""

from __future__ import annotations

import logging
from typing import Final

from engine_ops.api.plugin_change import PluginChange
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError
from engine_ops.kube.plugin_patch import API_MANAGER, field_faults, patch_plugin
from engine_ops.server.callers import AccessUnavailable, Caller
from engine_ops.server.plugin_changes import PluginChangeRefused, PluginNotFound

PASSED_ON: Final = frozenset({400, 401, 403, 409, 413, 422, 429})
"""What the API server refuses with that is the caller's to hear; all else is an outage."""

_log = logging.getLogger(__name__)


class KubePluginSwitch:
    """Patches OptimizerPlugins; see `engine_ops.server.plugin_changes.PluginSwitch`.

    Parameters
    ----------
    connection
        Which API server, and whom to trust for it. Nothing of its credentials is used.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def change(self, caller: Caller, name: str, change: PluginChange, *, force: bool) -> None:
        """Change a plugin; see `engine_ops.server.plugin_changes.PluginSwitch`."""
        if not caller.token:
            raise PluginChangeRefused(401, "There is no token in whose name the plugin could be changed.")
        try:
            # A connection for one change: nothing of one caller's is ever there when another's is made.
            theirs = self._connection.as_user(caller.token)
            try:
                await patch_plugin(theirs, name, change, field_manager=API_MANAGER, force=force)
            finally:
                await theirs.close()
        except ApiError as error:
            raise _told(error) from None
        except (ConnectError, UnavailableError) as error:
            _log.warning("plugin %s could not be changed: %s", name, error)
            raise _unavailable() from None


def _told(error: ApiError) -> Exception:
    if error.status == 404:
        return PluginNotFound(error.message)
    if error.status in PASSED_ON:
        return PluginChangeRefused(
            error.status, error.message, field_faults(error), retry_after_seconds=error.retry_after_seconds
        )
    _log.warning("a plugin could not be changed: %s", error)
    return _unavailable()


def _unavailable() -> AccessUnavailable:
    return AccessUnavailable("The Kubernetes API server, which keeps the plugins, cannot be reached now. Try again.")
