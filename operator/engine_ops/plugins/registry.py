"""Which plugins there are, how each is used, and which of them a request goes to."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine_ops.api.faults import InvalidDataError
from engine_ops.api.optimizationrequest import NO_PLUGIN
from engine_ops.engine.request import OptimizationRequest
from engine_ops.plugins.base import Plugin, PluginError
from engine_ops.plugins.config import PluginConfig
from engine_ops.plugins.events import EventKind, Events, Listener, PluginEvent
from engine_ops.plugins.registered import (
    FAILURES,
    Plugins,
    RegisteredPlugin,
    check_name,
    failed,
    initialize,
    kinds_of,
    metadata_of,
    takes,
)

logger = logging.getLogger(__name__)


class PluginRegistry:
    """The plugins, switched on and off while requests come in. Safe to use from any thread.

    A plugin's own code (``init``, ``shutdown``, ``can_handle``) runs in the caller's thread and outside the registry's
    lock, so that a slow one delays nobody else; only changes of the same plugin wait for one another. A request that
    was already given a plugin keeps it, whatever becomes of the plugin in the registry: ``init`` with other settings,
    and ``shutdown``, may meet an ``optimize`` that runs.

    Examples
    --------
    >>> from engine_ops import OptimizationRequest, PluginConfig
    >>> from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata
    >>> class Model(BaseMLModel):
    ...     def train(self, data):
    ...         self.is_trained = True
    >>> registry = PluginRegistry()
    >>> for name in ("careful", "bold"):
    ...     plugin = MLPluginInterface(PluginMetadata(name, "1.0.0", "An example"), Model(name))
    ...     _ = registry.register(plugin, PluginConfig(priority=1))
    >>> request = OptimizationRequest(id="a", type="ml-driven", data={})
    >>> [each.name for each in registry.select(request)]
    ['bold', 'careful']
    >>> _ = registry.disable("bold")
    >>> [each.name for each in registry.select(request)]
    ['careful']
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[str, _Slot] = {}
        self._order: tuple[RegisteredPlugin, ...] = ()
        self._events = Events()

    def register(
        self, plugin: Plugin, config: PluginConfig | None = None, *, name: str | None = None
    ) -> RegisteredPlugin:
        """Add a plugin and initialise it with its settings.

        ``init`` is called in any case: settings that the plugin was given before are replaced, so that what the
        registry shows is what the plugin works with.

        Parameters
        ----------
        plugin
            The plugin.
        config
            How to use it; None takes the defaults: enabled, priority 0.
        name
            What to call it here; the name in its metadata unless given. Two plugins of one class need two names.

        Raises
        ------
        TypeError
            If it is no plugin.
        ValueError
            If the name is taken, reserved or empty.
        InvalidDataError
            If the plugin's ``config_schema`` rejects its settings; the paths begin with ``config``. A ``ValueError``.
        PluginError
            If its ``init`` fails.
        """
        metadata = metadata_of(plugin)
        name = metadata.name if name is None else name
        check_name(name)
        config = config if config is not None else PluginConfig()
        slot = _Slot()
        try:
            with slot.lock:
                with self._lock:
                    if name in self._slots:
                        raise ValueError(f"plugin {name!r} is registered already: unregister it first")
                    self._slots[name] = slot
                try:
                    initialize(plugin, config)
                except BaseException as error:
                    with self._lock:
                        del self._slots[name]
                    if isinstance(error, (PluginError, InvalidDataError)):
                        self._add(PluginEvent(EventKind.ERROR, name, None, str(error)))
                    raise
                return self._put(name, slot, RegisteredPlugin(name, plugin, config), EventKind.REGISTERED)
        finally:
            self._events.hand_out()

    def unregister(self, name: str) -> Plugin:
        """Remove a plugin and shut it down. A failing ``shutdown`` is told as an event and does not keep it.

        Returns
        -------
        MLPluginInterface or BaseOptimizationPlugin
            The plugin.

        Raises
        ------
        LookupError
            If there is none of this name.
        """
        try:
            slot = self._slot(name)
            with slot.lock:
                entry = slot.current(name)
                # No longer selected from here on; the name is free once the plugin is down.
                with self._lock:
                    slot.entry = None
                    self._sort()
                try:
                    entry.plugin.shutdown()
                except FAILURES as error:
                    self._add(PluginEvent(EventKind.ERROR, name, None, failed("shutdown", error)))
                finally:
                    with self._lock:
                        del self._slots[name]
                    self._add(PluginEvent(EventKind.UNREGISTERED, name))
            return entry.plugin
        finally:
            self._events.hand_out()

    def clear(self) -> None:
        """Unregister every plugin."""
        for entry in self.list():
            try:
                self.unregister(entry.name)
            except LookupError:
                continue  # another thread was quicker

    def enable(self, name: str) -> RegisteredPlugin:
        """Have requests go to a plugin.

        Raises
        ------
        LookupError
            If there is none of this name.
        """
        return self._change(name, lambda config: config.changed({"enabled": True}), retry=False)

    def disable(self, name: str) -> RegisteredPlugin:
        """Have no more requests go to a plugin. It stays initialised, and keeps what it has learned.

        Raises
        ------
        LookupError
            If there is none of this name.
        """
        return self._change(name, lambda config: config.changed({"enabled": False}), retry=False)

    def update_config(self, name: str, config: PluginConfig | Mapping[str, Any]) -> RegisteredPlugin:
        """Change how a plugin is used. Settings that differ are given to the plugin's ``init``.

        A plugin that does not accept its new settings is left out of selection until it is given some that it accepts.

        Parameters
        ----------
        name
            Of the plugin.
        config
            All of it, or a mapping of the fields of `PluginConfig` that change: ``{"priority": 5}``. The settings in
            ``config`` are replaced as a whole.

        Raises
        ------
        LookupError
            If there is none of this name.
        ValueError
            If a field is unknown or a value is wrong; nothing changes then.
        InvalidDataError
            If the plugin's ``config_schema`` rejects its settings; the paths begin with ``config``. A ``ValueError``.
        PluginError
            If its ``init`` fails.
        """
        if isinstance(config, PluginConfig):
            whole = config
            return self._change(name, lambda _: whole, retry=True)
        changes = config
        return self._change(name, lambda before: before.changed(changes), retry=True)

    def get(self, name: str) -> RegisteredPlugin | None:
        """Return the plugin of a name, None where there is none."""
        slot = self._slots.get(name)
        return slot.entry if slot is not None else None

    def list(self) -> Plugins:
        """Return every plugin, disabled ones too: highest priority first, then by name."""
        return [*self._order]

    def select(self, request: OptimizationRequest, *, plugin: str | None = None) -> Plugins:
        """Return the plugins that a request goes to, the first of them first.

        A plugin whose ``can_handle`` raises, or says neither True nor False, is passed over, and an event of kind error
        tells of it.

        Parameters
        ----------
        request
            The question.
        plugin
            The only one to ask, by its name; ``none`` means no plugin, None any.

        Returns
        -------
        list of RegisteredPlugin
            Enabled ones that can handle the request: highest priority first, then by name.
        """
        if plugin == NO_PLUGIN:
            return []
        candidates = (each for each in self._order if plugin is None or each.name == plugin)
        selected = [each for each in candidates if self._takes(each, request)]
        self._events.hand_out()
        return selected

    def subscribe(self, listener: Listener, kinds: Iterable[str] | None = None) -> Callable[[], None]:
        """Have a function, or a coroutine function, told of events. See `Events.subscribe`."""
        return self._events.subscribe(listener, kinds)

    def report_error(self, name: str, message: str) -> None:
        """Tell the listeners of an error of a plugin that happened elsewhere: in an answer, in an import.

        Parameters
        ----------
        name
            Of the plugin, registered or not.
        message
            What was done, and what went wrong.
        """
        entry = self.get(name)
        self._add(PluginEvent(EventKind.ERROR, name, entry.config if entry is not None else None, message))
        self._events.hand_out()

    def _change(self, name: str, change: Callable[[PluginConfig], PluginConfig], *, retry: bool) -> RegisteredPlugin:
        try:
            slot = self._slot(name)
            with slot.lock:
                before = slot.current(name)
                config = change(before.config)
                after = dataclasses.replace(before, config=config)
                if config.config != before.config.config or (retry and before.problem is not None):
                    try:
                        initialize(before.plugin, config)
                    except (PluginError, InvalidDataError) as error:
                        after = dataclasses.replace(after, problem=str(error))
                        self._put(name, slot, after, *kinds_of(before, after))
                        self._add(PluginEvent(EventKind.ERROR, name, config, str(error)))
                        raise
                    after = dataclasses.replace(after, problem=None)
                return self._put(name, slot, after, *kinds_of(before, after))
        finally:
            self._events.hand_out()

    def _slot(self, name: str) -> _Slot:
        slot = self._slots.get(name)
        if slot is None:
            raise _unknown(name)
        return slot

    def _put(self, name: str, slot: _Slot, entry: RegisteredPlugin, *kinds: EventKind) -> RegisteredPlugin:
        with self._lock:
            slot.entry = entry
            self._sort()
            # Under the lock, so that events stand in the order of the changes.
            for kind in kinds:
                self._events.add(PluginEvent(kind, name, entry.config))
        return entry

    def _sort(self) -> None:
        entries = [slot.entry for slot in self._slots.values() if slot.entry is not None]
        self._order = tuple(sorted(entries, key=lambda entry: (-entry.config.priority, entry.name)))

    def _add(self, event: PluginEvent) -> None:
        self._events.add(event)
        if event.kind is EventKind.ERROR:
            slot = self._slots.get(event.plugin)
            # One that fails at every request would fill the log.
            if slot is None or slot.logged != event.message:
                logger.warning("plugin %s: %s", event.plugin, event.message)
            if slot is not None:
                slot.logged = event.message

    def _takes(self, entry: RegisteredPlugin, request: OptimizationRequest) -> bool:
        try:
            return takes(entry, request)
        except PluginError as error:
            self._add(PluginEvent(EventKind.ERROR, entry.name, entry.config, str(error)))
            return False


class _Slot:
    """The place of a plugin. Its lock is held while the plugin's own code makes it ready or ends it."""

    def __init__(self) -> None:
        # A plugin may call the registry from within its own code.
        self.lock = threading.RLock()
        self.entry: RegisteredPlugin | None = None
        self.logged = ""

    def current(self, name: str) -> RegisteredPlugin:
        # Under the lock: the thread that held it before may have emptied the slot.
        if self.entry is None:
            raise _unknown(name)
        return self.entry


def _unknown(name: str) -> LookupError:
    return LookupError(f"no plugin {name!r} is registered")


plugin_registry = PluginRegistry()
"""The registry that an engine uses unless it is given another."""
