"""What a plugin's service is told before it is asked: its settings, and the state of its model."""

from __future__ import annotations

import base64
import logging
from typing import Any, Final

import msgspec

from engine_ops.plugins.instance import PluginBrokenError
from engine_ops.plugins.service_client import ServiceClient, ServiceProblemError
from engine_ops.plugins.service_messages import MAX_STATE_BYTES, NOT_OFFERED, PluginInfo, Validate
from engine_ops.plugins.service_translation import below_config

logger = logging.getLogger(__name__)

INFO_SECONDS: Final = 5.0
"""For what is answered without any work."""

OPENING_SECONDS: Final = 60.0
"""For the settings, and for each request with history: a plugin may take long to begin."""


class ServiceSettings:
    """The settings of one service, given to it as often as it starts anew.

    Parameters
    ----------
    name
        The plugin's; in logs.
    client
        To the service.
    config
        JSON of an object: the plugin's own settings.
    state
        A trained model's, as the service gave it; empty for none.

    Attributes
    ----------
    state : bytes
        What it gets of a model the next time. Empty once the service has not taken it.
    """

    def __init__(self, name: str, client: ServiceClient, config: bytes, state: bytes) -> None:
        self._name = name
        self._client = client
        self._config = config or b"{}"
        self.state = state

    async def give(self) -> PluginInfo:
        """Give the service its settings and, if there is one, its model, and return what it says of itself with them.

        Raises
        ------
        PluginBrokenError
            If it rejects the settings (stage ``config``).
        ServiceFaultError, ServiceProblemError
            If it does not answer, or not as it must.
        """
        return await self._settled(await self._info())

    async def _info(self) -> PluginInfo | None:
        """Return what the service says of itself; None where it must have its settings first."""
        try:
            return await self._client.get("/info", PluginInfo, timeout_seconds=INFO_SECONDS)
        except ServiceProblemError as error:
            if error.problem.stage is None:
                raise
            return None

    async def _settled(self, info: PluginInfo | None) -> PluginInfo:
        config = msgspec.json.decode(self._config, type=dict[str, Any])
        state = base64.b64encode(self.state).decode() if len(self.state) <= MAX_STATE_BYTES else ""
        asked = Validate(config=config, state=state)
        try:
            return await self._client.post("/validate", asked, PluginInfo, timeout_seconds=OPENING_SECONDS)
        except ServiceProblemError as error:
            problem = error.problem
            if error.status in NOT_OFFERED and info is not None:
                if not config:
                    return info
                fault = "the service takes no settings (it has no /validate)"
                raise PluginBrokenError("config", f"config: {fault}", (("config", fault),)) from error
            if problem.stage == "config":
                faults = tuple((below_config(each.path), each.message) for each in problem.errors)
                raise PluginBrokenError("config", error.message, faults) from error
            if problem.stage == "load" and self.state:
                # The model is of another version of the plugin, say: without it the plugin can be trained again.
                logger.warning("plugin %s: its saved model is not taken: %s", self._name, error.message)
                self.state = b""
                return await self._settled(info)
            raise
