"""The reconcile loop of OptimizerPlugins, without kopf: it has each plugin run as its spec says, and tells how it does.

Each plugin has two tasks. One brings what runs to what the spec wants; a newer spec ends an older one's attempt. The
other writes the status whenever it has changed. Neither holds up another plugin, or a request.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import dataclasses
import datetime
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Protocol

from pydantic import ValidationError

from engine_ops.api.conditions import READY, find
from engine_ops.api.faults import Fault, InvalidDataError, faults_of
from engine_ops.api.optimizerplugin import OptimizerPluginSpec
from engine_ops.api.reasons import Reason
from engine_ops.controllers import plugin_status
from engine_ops.controllers.plugin_status import DEGRADED, Status
from engine_ops.controllers.view import PluginView
from engine_ops.kube.errors import ApiError
from engine_ops.kube.events import EventRecorder
from engine_ops.kube.status_writer import StatusWriter, Written
from engine_ops.kube.target import Target
from engine_ops.plugins.snapshot import PluginSnapshot

logger = logging.getLogger(__name__)

COALESCE_SECONDS: Final = 0.2
"""A change is told so much later, together with those that follow it at once."""
NUMBERS_SECONDS: Final = 60.0
"""Counts, latencies and skill alone are written at most so often."""
FIRST_RETRY_SECONDS: Final = 0.5
LAST_RETRY_SECONDS: Final = 60.0
_OWN_STATUSES: Final = 8
"""So many statuses that we wrote are known when the watch shows them."""


class Plugins(Protocol):
    """What runs plugins; see `engine_ops.plugins.manager.PluginManager`."""

    async def apply(self, name: str, spec: OptimizerPluginSpec) -> None:
        """Run a plugin as its spec says."""

    async def remove(self, name: str) -> None:
        """End a plugin, and forget its models."""

    def snapshot(self, name: str) -> PluginSnapshot | None:
        """Say how it stands; None where there is none of that name."""

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Have a callback told the name of each plugin that has changed; return what ends it."""


class Models(Protocol):
    """Where trained models are kept; see `engine_ops.plugins.model_store.ModelStore`."""

    async def forget(self, plugin: str) -> None:
        """Remove the models of a plugin."""


@dataclasses.dataclass(slots=True, eq=False)
class _Entry:
    """One plugin, by its name.

    Parameters
    ----------
    target
        The object as it was seen last; None when it is gone.
    known
        The status that the object has, as far as we know.
    wanted
        The spec to run; None where the object is gone, or was wrong from the start.
    fault
        What is wrong with the object's spec.
    forget
        Whether the plugin and the models of an object that is gone must go before anything else.
    forgetting
        Whether that is being done.
    deleting
        Whether the object is on its way out.
    applied
        The generation that runs, or is being started; -1 before the first.
    lock
        Held by the one task that changes what runs.
    changed
        Set when there may be something to tell.
    told, own
        What we have told last, and what we have tried to tell lately: the watch shows it to us again.
    announced
        What Events have said last.
    numbers_at
        When the status was written last, by the loop's clock.
    bringing, telling
        The tasks.
    """

    target: Target | None
    known: Mapping[str, Any]
    wanted: OptimizerPluginSpec | None = None
    fault: InvalidDataError | None = None
    forget: bool = False
    forgetting: bool = False
    deleting: bool = False
    applied: int = -1
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    changed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    told: Any = None
    own: collections.deque[Any] = dataclasses.field(default_factory=lambda: collections.deque(maxlen=_OWN_STATUSES))
    announced: tuple[Any, ...] | None = None
    numbers_at: float = -NUMBERS_SECONDS
    bringing: asyncio.Task[None] | None = None
    telling: asyncio.Task[None] | None = None


class PluginReconciler:
    """Brings plugins to what OptimizerPlugins want, and their statuses to how they stand.

    Parameters
    ----------
    plugins
        Runs them.
    models
        Where their models are kept: those of a plugin that is gone go with it.
    writer, events
        The API server.
    coalesce_seconds, numbers_seconds
        See `COALESCE_SECONDS` and `NUMBERS_SECONDS`.

    Attributes
    ----------
    tells
        Whether statuses, and Events about them, are this operator's to write. To be set before the first `observe`.
    """

    def __init__(
        self,
        *,
        plugins: Plugins,
        models: Models,
        writer: StatusWriter,
        events: EventRecorder,
        coalesce_seconds: float = COALESCE_SECONDS,
        numbers_seconds: float = NUMBERS_SECONDS,
    ) -> None:
        self._plugins = plugins
        self._models = models
        self._writer = writer
        self._events = events
        self._coalesce_seconds = coalesce_seconds
        self._numbers_seconds = numbers_seconds
        self.tells = True
        self._entries: dict[str, _Entry] = {}
        # kopf calls us in a context that holds the whole object: a task of ours must not keep it alive.
        self._context = contextvars.copy_context()
        self._unsubscribe = plugins.subscribe(self._noted)

    @property
    def under_way(self) -> int:
        """How many plugins are not yet as their spec wants them."""
        return sum(entry.bringing is not None for entry in self._entries.values())

    def observe(self, view: PluginView) -> None:
        """Take note of an object as the watch shows it. Returns at once."""
        name, target = view.target.name, view.target
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry(None, view.status)
        if entry.target is not None and entry.target.uid != target.uid:
            # Another one under its name: we were not told of the end of the first.
            entry.forget, entry.wanted = True, None
        same = entry.target == target and entry.deleting == view.deleting
        if entry.target is None or entry.target.uid != target.uid:
            entry.own.clear()
            entry.told, entry.applied = None, -1
            entry.known = view.status
            entry.announced = _announcement(view.status)
        else:
            shown = plugin_status.at_once(view.status)
            # Either not ours: somebody else wrote it, or it is of before ours and comes late. Or the last of ours: then
            # what we held for somebody else's is over. The echo of an earlier one of ours says nothing any more.
            if shown not in entry.own or shown == entry.own[-1]:
                entry.known = view.status
        entry.target, entry.deleting = target, view.deleting
        if not same:
            self._want(entry, view)
            self._bring(name, entry)
        if self.tells and entry.telling is None:
            entry.telling = asyncio.create_task(self._tell(name, entry), name=f"tell {name}", context=self._context)
        entry.changed.set()

    def gone(self, view: PluginView) -> None:
        """Take note that an object is gone: its plugin ends, and its models go."""
        name = view.target.name
        entry = self._entries.get(name)
        if entry is None or entry.target is None or entry.target.uid != view.target.uid:
            return
        entry.target, entry.wanted, entry.fault, entry.forget = None, None, None, True
        if entry.telling is not None:
            entry.telling.cancel()
            entry.telling = None
        self._bring(name, entry)

    async def close(self) -> None:
        """Stop following. What runs is its owner's to end."""
        self._unsubscribe()
        entries, self._entries = list(self._entries.values()), {}
        tasks = [task for entry in entries for task in (entry.bringing, entry.telling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _want(self, entry: _Entry, view: PluginView) -> None:
        """Note what is to run. One with a wrong spec, or on its way out, is not asked, and its models stay."""
        entry.fault = None
        if not view.deleting:
            try:
                entry.wanted = OptimizerPluginSpec.model_validate(view.spec)
            except ValidationError as error:
                entry.fault = InvalidDataError(faults_of(error, root="spec"))
        if entry.wanted is not None and (view.deleting or entry.fault is not None):
            entry.wanted = entry.wanted.model_copy(update={"enabled": False})

    def _noted(self, name: str) -> None:
        entry = self._entries.get(name)
        if entry is not None:
            entry.changed.set()

    def _bring(self, name: str, entry: _Entry) -> None:
        """Have what runs brought to what is wanted now, whatever was wanted before."""
        if entry.bringing is not None:
            if entry.forgetting:
                return  # not to be left half done; it goes on with what is wanted then
            entry.bringing.cancel()
        entry.bringing = asyncio.create_task(
            self._bring_about(name, entry), name=f"bring {name}", context=self._context
        )

    async def _bring_about(self, name: str, entry: _Entry) -> None:
        attempt = 0
        while True:
            try:
                async with entry.lock:
                    await self._bring_once(name, entry)
                break
            except Exception:  # whatever it was, the plugin must not stay as nobody wants it
                delay = _backoff(attempt)
                logger.exception("OptimizerPlugin %s: trying again in %.1f s", name, delay)
            attempt += 1
            await asyncio.sleep(delay)
        # No await since the last step: whoever wants something else cancels a task that is not here yet.
        entry.bringing = None
        entry.changed.set()
        if entry.target is not None:
            entry.applied = entry.target.generation
        elif self._entries.get(name) is entry:
            del self._entries[name]

    async def _bring_once(self, name: str, entry: _Entry) -> None:
        if entry.forget:
            entry.forgetting = True
            try:
                await self._plugins.remove(name)
                await self._models.forget(name)  # also those of one that was never run here
                entry.forget = False
            finally:
                entry.forgetting = False
        if entry.wanted is None:
            return
        try:
            await self._plugins.apply(name, entry.wanted)
        except ValueError as error:  # its name is taken by a plugin that was installed
            entry.fault = InvalidDataError([Fault("metadata.name", str(error))])

    async def _tell(self, name: str, entry: _Entry) -> None:
        """Write the status whenever it has changed, for as long as the object is there."""
        attempt = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._numbers_seconds):
                    await entry.changed.wait()
            if attempt == 0:
                await asyncio.sleep(self._coalesce_seconds)
            entry.changed.clear()
            try:
                await self._tell_once(name, entry)
                attempt = 0
                continue
            except ApiError as error:  # the writer has tried for half a minute: a role or a webhook refuses it
                delay = _backoff(attempt)
                logger.warning("OptimizerPlugin %s: its status is not written, trying again: %s", name, error)
            except Exception:
                delay = _backoff(attempt)
                logger.exception("OptimizerPlugin %s: its status is not written, trying again", name)
            attempt += 1
            entry.changed.set()
            await asyncio.sleep(delay)

    async def _tell_once(self, name: str, entry: _Entry) -> None:
        target, status = entry.target, self._status(name, entry)
        if target is None or status is None or status == entry.known:
            return
        loop = asyncio.get_running_loop()
        urgent = plugin_status.at_once(status)
        # A status that somebody else wrote over ours waits as numbers do: two operators must not answer each other.
        no_news = urgent in (plugin_status.at_once(entry.known), entry.told)
        if no_news and loop.time() < entry.numbers_at + self._numbers_seconds:
            return
        entry.own.append(urgent)
        before = entry.known
        written = await self._writer.write(target, status)
        if written is Written.DROPPED:
            return  # it is gone, or has another spec: the watch tells
        entry.numbers_at, entry.told = loop.time(), urgent
        if entry.known is before:
            entry.known = status  # a refused one too: the same would be refused again
        else:
            entry.changed.set()  # the watch has shown another in the meantime, and which was first nobody knows
        if written is Written.DONE:
            self._announce(target, entry, status)

    def _status(self, name: str, entry: _Entry) -> Status | None:
        if entry.target is None or entry.deleting:
            return None
        now = datetime.datetime.now(datetime.UTC)
        if entry.fault is not None:
            return plugin_status.invalid(entry.fault, entry.known, entry.target.generation, now)
        snapshot = None if entry.forget else self._plugins.snapshot(name)
        if snapshot is None:
            return None  # it is not being run yet: nothing is known
        # A spec that is not taken over yet is not what the snapshot tells of.
        return plugin_status.status_of(snapshot, entry.known, entry.applied, now)

    def _announce(self, target: Target, entry: _Entry, status: Status) -> None:
        """Record an Event where Ready or Degraded has changed. That a plugin is being started is no news."""
        ready = find(status, READY) or {}
        announcement = _announcement(status)
        if announcement is None or announcement == entry.announced:
            return
        before = entry.announced
        entry.announced = announcement
        degraded = find(status, DEGRADED)
        if degraded is not None and (before is None or not before[-1]):
            self._events.record(target, "Warning", degraded["reason"], degraded["message"])
        elif before is None or before[:-1] != announcement[:-1]:
            type_: Literal["Normal", "Warning"] = "Normal" if ready.get("status") == "True" else "Warning"
            self._events.record(target, type_, str(ready.get("reason")), str(ready.get("message")))


def _announcement(status: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return what an Event is made of: Ready's status and reason, and whether it is degraded; None for nothing yet."""
    ready = find(status, READY)
    if ready is None or ready.get("reason") in (Reason.STARTING, Reason.UPDATING):
        return None
    return ready.get("status"), ready.get("reason"), find(status, DEGRADED) is not None


def _backoff(attempt: int) -> float:
    delay = min(FIRST_RETRY_SECONDS * 2.0 ** min(attempt, 10), LAST_RETRY_SECONDS)
    return delay * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, no secret
