"""What happens in a registry, told to whoever wants to know.

Events are queued where they arise and handed out one after the other, outside every lock: each listener gets them in
the order in which they happened, and may call the registry from within.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import enum
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Protocol

from engine_ops.plugins.config import PluginConfig

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 10_000
"""Events that wait, in all and for one async listener. Behind a listener that never comes back the oldest are dropped,
and the log says so."""


class EventKind(enum.StrEnum):
    """What happened to a plugin."""

    REGISTERED = "registered"
    UNREGISTERED = "unregistered"
    ENABLED = "enabled"
    DISABLED = "disabled"
    CONFIG_UPDATED = "config-updated"
    ERROR = "error"


@dataclasses.dataclass(frozen=True, slots=True)
class PluginEvent:
    """Something that happened to a plugin.

    Parameters
    ----------
    kind
        What.
    plugin
        The name under which it is registered, or was to be.
    config
        How it was used after the event; None where it was not registered.
    message
        Of an error: what was done, and what went wrong. Text only, so that no event keeps a plugin's frames alive.
    """

    kind: EventKind
    plugin: str
    config: PluginConfig | None = None
    message: str = ""


class Listener(Protocol):
    """What is told of events: a function, or a coroutine function."""

    def __call__(self, event: PluginEvent, /) -> Any:
        """Take notice. What it returns is ignored; a coroutine is awaited, where a coroutine function made it."""
        ...


class Events:
    """Hands events to listeners, in order. A listener that raises is logged, and harms nobody.

    A sync listener is called by the thread that hands out: usually that of the event, or one that is at it already. It
    should be quick, for the events after it wait. An async listener handles one event at a time, on the event loop that
    ran where it subscribed; where none did, on the one of the thread that hands out, or else to its end in that thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._waiting: collections.deque[PluginEvent] = collections.deque(maxlen=MAX_WAITING)
        self._handing_out = False

    def subscribe(self, listener: Listener, kinds: Iterable[str] | None = None) -> Callable[[], None]:
        """Have ``listener`` told of events.

        Parameters
        ----------
        listener
            A function or a coroutine function of one event.
        kinds
            Which ones, as `EventKind` or its words; None means all.

        Returns
        -------
        callable
            Ends the subscription; calling it twice does nothing more.

        Raises
        ------
        ValueError
            If a kind is unknown.
        """
        wanted = frozenset(EventKind) if kinds is None else frozenset(EventKind(kind) for kind in kinds)
        subscription = _Subscription(listener, wanted)
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)

        def unsubscribe() -> None:
            with self._lock:
                self._subscriptions = tuple(each for each in self._subscriptions if each is not subscription)

        return unsubscribe

    def add(self, event: PluginEvent) -> None:
        """Queue an event. Call `hand_out` afterwards, when no lock is held."""
        _push(self._waiting, event)

    def hand_out(self) -> None:
        """Hand the queued events to the listeners, unless a thread (this one, from within a listener) is at it."""
        while self._waiting:
            with self._lock:
                if self._handing_out:
                    return
                self._handing_out = True
            try:
                self._hand_out_all()
            finally:
                with self._lock:
                    self._handing_out = False
            # One more look: an event added between the last look and giving up the role would wait for the next.

    def _hand_out_all(self) -> None:
        while self._waiting:
            event = self._waiting.popleft()
            for subscription in self._subscriptions:
                if event.kind in subscription.kinds:
                    subscription.tell(event)


class _Subscription:
    def __init__(self, listener: Listener, kinds: frozenset[EventKind]) -> None:
        self.kinds = kinds
        self._listener = listener
        self._async = _is_async(listener)
        self._loop = _running_loop() if self._async else None
        self._inbox: collections.deque[PluginEvent] = collections.deque(maxlen=MAX_WAITING)
        self._task: asyncio.Task[None] | None = None

    def tell(self, event: PluginEvent) -> None:
        try:
            if self._async:
                self._tell_async(event)
            else:
                self._tell_sync(event)
        except (Exception, asyncio.CancelledError):
            logger.exception("a listener failed at event %s of plugin %s", event.kind, event.plugin)

    def _tell_sync(self, event: PluginEvent) -> None:
        returned = self._listener(event)
        if inspect.iscoroutine(returned):
            returned.close()
            raise TypeError("it returned a coroutine: subscribe a coroutine function (async def) instead")

    def _tell_async(self, event: PluginEvent) -> None:
        loop = self._loop or _running_loop()
        if loop is None:
            asyncio.run(self._handle(event))
            return
        if loop.is_closed():
            return  # nobody is left to take notice
        _push(self._inbox, event)
        # The task is made on the loop itself: a closed loop then leaves no coroutine behind that nobody awaits.
        loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        if self._inbox and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._inbox:
            await self._handle(self._inbox.popleft())

    async def _handle(self, event: PluginEvent) -> None:
        try:
            handling: Coroutine[Any, Any, object] = self._listener(event)
            await handling
        except Exception:
            logger.exception("a listener failed at event %s of plugin %s", event.kind, event.plugin)


def _push(queue: collections.deque[PluginEvent], event: PluginEvent) -> None:
    if len(queue) == MAX_WAITING - 1:
        logger.warning("%d events of plugins wait for a listener; from now on the oldest are dropped", MAX_WAITING)
    queue.append(event)


def _is_async(listener: Listener) -> bool:
    return inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(getattr(listener, "__call__", None))  # noqa: B004


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
