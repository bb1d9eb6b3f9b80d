"""Who would be asked, published for threads that only read: a cached answer is good while it stays the same."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from engine_ops.api.optimizationrequest import NO_PLUGIN, RequestType
from engine_ops.plugins.fallback import FALLBACK
from engine_ops.plugins.hosted import HostedPlugin
from engine_ops.plugins.manager import PluginManager
from engine_ops.plugins.model_store import circumstances

logger = logging.getLogger(__name__)

_DIGITS: Final = 16


@dataclasses.dataclass(frozen=True, slots=True)
class _OfType:
    """For one type of request: all that are asked, in their order, and each alone, by its name."""

    all: str = ""
    alone: Mapping[str, str] = dataclasses.field(default_factory=lambda: MappingProxyType({}))


_NOBODY: Final = _OfType()


class LineupBoard:
    """Names, for each type of request, the plugins that would be asked, and in which state they are.

    That is their order and priority, version, settings, the digests of their models, and whether they are being
    replaced, trained or cannot be reached. For type ``ml-driven`` what predicts from the history is among them.

    Parameters
    ----------
    manager
        Of the plugins. Whoever makes the board does so on its loop.
    """

    def __init__(self, manager: PluginManager) -> None:
        self._manager = manager
        self._published: Mapping[str, _OfType] = MappingProxyType({})
        self._states: dict[str, str] = {}
        self._due: asyncio.Handle | None = None
        self._unsubscribe: Callable[[], None] = manager.subscribe(self._changed)
        self._loop = asyncio.get_running_loop()
        self._following = self._loop.create_task(self._follow(), name="publish the plugins' lineup")
        for name in manager.names():
            self._look_at(name)
        self._publish()

    def of(self, request_type: str, plugin: str | None) -> str:
        """Return the lineup of a type; may be called on any thread.

        Parameters
        ----------
        request_type
            Of the request.
        plugin
            The only one that may be asked; ``none`` for no plugin, None for any.

        Returns
        -------
        str
            Empty where no plugin is asked.
        """
        if plugin == NO_PLUGIN:
            return ""
        found = self._published.get(request_type, _NOBODY)
        return found.all if plugin is None else found.alone.get(plugin, "")

    async def close(self) -> None:
        """Follow the plugins no more."""
        self._unsubscribe()
        if self._due is not None:
            self._due.cancel()
        self._following.cancel()
        await asyncio.wait({self._following})

    def _changed(self, name: str) -> None:
        self._look_at(name)
        if self._due is None:  # several changes in a row are published once
            self._due = self._loop.call_soon(self._publish)

    def _look_at(self, name: str) -> None:
        hosted = self._manager.get(name)
        if hosted is None:
            self._states.pop(name, None)
        else:
            self._states[name] = _state_of(hosted)

    async def _follow(self) -> None:
        """Publish changes of what no listener is told of: the fallback's."""
        version = self._manager.version
        while True:
            version = await self._manager.wait_changed(version)
            self._publish()

    def _publish(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        fallback = self._manager.running_fallback
        predictor = f"{FALLBACK}:{_state_of(fallback) if fallback is not None else '-'}"
        published = {}
        for request_type in RequestType:
            alone = {
                hosted.name: f"{hosted.name}:{self._states.get(hosted.name, '')}"
                for hosted in self._manager.select(request_type, None)
            }
            asked = list(alone.values())
            if request_type is RequestType.ML_DRIVEN:
                asked.append(predictor)
            published[request_type.value] = _OfType(" ".join(asked), MappingProxyType(alone))
        self._published = MappingProxyType(published)


def _state_of(hosted: HostedPlugin) -> str:
    """Return a digest of all that decides what a plugin says to a request."""
    snapshot = hosted.snapshot()
    spec = hosted.spec
    made_of = (
        hosted.ability(),  # its priority and models among it
        snapshot.version,
        snapshot.state,
        circumstances(spec.source, spec.config),
        spec.limits.timeout_seconds,
    )
    return hashlib.sha256(repr(made_of).encode()).hexdigest()[:_DIGITS]
