"""OptimizerPlugins on the cluster under load: applied, patched, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lib.load_client import LoadClient, LoadError

PATH = "/apis/engineops.dev/v1alpha1/optimizerplugins"
PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.02


def plugin(name: str, entry_point: str, types: Sequence[str], **spec: Any) -> dict[str, Any]:
    """Return an OptimizerPlugin that is disabled.

    Parameters
    ----------
    name
        Of the object.
    entry_point
        ``module:Class``.
    types
        Of requests.
    spec
        Further fields.
    """
    return {
        "apiVersion": "engineops.dev/v1alpha1",
        "kind": "OptimizerPlugin",
        "metadata": {"name": name},
        "spec": {"enabled": False, "supportedTypes": list(types), "source": {"entryPoint": entry_point}, **spec},
    }


class PluginResources:
    """Switches plugins.

    Parameters
    ----------
    client
        The way to the API server.
    """

    def __init__(self, client: LoadClient) -> None:
        self._client = client

    async def patch(self, name: str, spec: Mapping[str, Any]) -> None:
        """Merge fields into a plugin's spec."""
        await self._client.merge_patch(f"{PATH}/{name}", msgspec.json.encode({"spec": spec}))

    async def status(self, name: str) -> dict[str, Any]:
        """Return a plugin's status; empty as long as there is none."""
        body: dict[str, Any] = msgspec.json.decode(await self._client.fetch(f"{PATH}/{name}"))
        status: dict[str, Any] = body.get("status") or {}
        current = status.get("observedGeneration") == body["metadata"]["generation"]
        return status if current else {}

    async def until(self, name: str, reason: str) -> dict[str, Any]:
        """Wait until a plugin's Ready condition has a reason, for the spec as it is, and return the status.

        Raises
        ------
        LoadError
            If that takes too long.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            status = await self.status(name)
            ready = [one for one in status.get("conditions", ()) if one["type"] == "Ready"]
            if any(one["reason"] == reason for one in ready):
                return status
            if time.monotonic() > deadline:
                raise LoadError(f"plugin {name} is not {reason}: {status}")
            await asyncio.sleep(_POLL_SECONDS)
