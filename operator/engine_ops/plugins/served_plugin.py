"""The plugin of a service: which settings, which history, which model. For the thread of its code."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.feed import HistoryFeed, HistoryUpdate
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.plugins.base import Plugin
from engine_ops.plugins.discovery import make_plugin
from engine_ops.plugins.messages import Ask, Broken, Close, Open, Opened, Replied, Train, Trained
from engine_ops.plugins.registered import metadata_of
from engine_ops.plugins.session import PluginSession

_NOT_READY = Broken("init", "the plugin is not initialised: its settings come with POST /validate")


class FeedError(Exception):
    """The points that came do not follow those that are there."""


class ServedPlugin:
    """Opens the plugin anew for other settings, and keeps the old one where they are rejected.

    Parameters
    ----------
    plugin
        A plugin, or its class: of a class, an object is made for each opening.

    Raises
    ------
    TypeError
        If it is neither.
    """

    def __init__(self, plugin: Plugin | type[Plugin]) -> None:
        self._is_class = isinstance(plugin, type)
        if not isinstance(plugin, type):
            metadata_of(plugin)
        self._make = _maker_of(plugin)
        self._session: PluginSession | None = None
        self._config = b""
        self._state = b""
        self._broken = _NOT_READY
        self._feed = ""
        self._points = 0
        self.opened: Opened | None = None
        self.instance = uuid.uuid4().hex
        """Changes when settings, history and model begin anew."""

    def open(self, config: bytes, state: bytes = b"") -> Opened | Broken:
        """Use some settings, and a model that was trained before. Nothing is done where they are in use already.

        Parameters
        ----------
        config
            JSON of an object, its keys in order.
        state
            See `engine_ops.plugins.messages.Open`.
        """
        if self.opened is not None and config == self._config and state in {b"", self._state}:
            return self.opened
        session = PluginSession(self._make)
        answer = session.handle(Open("", "served", config, state))
        if not isinstance(answer, Opened):
            broken = answer if isinstance(answer, Broken) else _NOT_READY
            if self.opened is None:
                self._broken = broken
            return broken
        if self._session is not None and self._is_class:
            self._session.handle(Close())
        self._session, self._config, self._state, self.opened = session, config, state, answer
        self._feed, self._points = "", 0
        self.instance = uuid.uuid4().hex
        return answer

    def info(self) -> Opened | Broken:
        """Return what the plugin says of itself, or why there is none."""
        return self.opened if self.opened is not None else self._broken

    def ask(self, ask: Ask) -> Replied:
        """Answer a request."""
        if self._session is None:
            return Replied(no=self._broken.message, failed=True)
        reply = self._session.handle(ask)
        if not isinstance(reply, Replied):
            raise TypeError(f"a session answers an Ask with Replied, not {type(reply).__name__}")
        self._learn(reply)
        return reply

    def train(self, points: Iterable[WorkloadDataPoint] | None, replay: Ask | None) -> Trained | Broken:
        """Train on the history, or on some points, which are the history from then on."""
        if self._session is None:
            return Broken("train", self._broken.message)
        if points is not None:
            given = list(points)
            self.take("", given, reset=True, size=len(given))
        answer = self._session.handle(Train(replay))
        if isinstance(answer, Trained):
            self._state = answer.state
            self._learn(answer)
            return answer
        if not isinstance(answer, Broken):
            raise TypeError(f"a session answers Train with Trained or Broken, not {type(answer).__name__}")
        return answer

    def take(self, feed: str, points: Sequence[WorkloadDataPoint], *, reset: bool, size: int) -> int:
        """Add points to the history, and return how many it has.

        Parameters
        ----------
        feed
            Who sends them.
        points
            Oldest first.
        reset
            Whether to forget those before.
        size
            The newest so many are the history.

        Raises
        ------
        FeedError
            If they are of another feed than those that are there, and these were not to be forgotten.
        engine_ops.history.limits.InvalidPointError
            If there is a point that no history can hold; none was added.
        """
        if self._session is None or (not reset and feed != self._feed):
            raise FeedError
        known = 0 if reset else self._points
        for update in list(_updates_of(points, reset=reset, size=size)):
            self._session.handle(update)
        self._feed, self._points = feed, min(size, known + len(points))
        return self._points

    def close(self) -> None:
        """Shut the plugin down."""
        session, self._session = self._session, None
        if session is not None:
            session.handle(Close())

    def _learn(self, answer: Replied | Trained) -> None:
        if self.opened is not None:
            self.opened = msgspec.structs.replace(
                self.opened,
                model_id=answer.model_id or self.opened.model_id,
                is_trained=self.opened.is_trained if answer.is_trained is None else answer.is_trained,
            )


def _maker_of(plugin: Plugin | type[Plugin]) -> Callable[[], Plugin]:
    if isinstance(plugin, type):
        plugin_class = plugin
        return lambda: make_plugin(plugin_class)
    made = plugin
    return lambda: made


def _updates_of(points: Sequence[WorkloadDataPoint], *, reset: bool, size: int) -> Iterator[HistoryUpdate]:
    if not points:
        yield HistoryUpdate(size, reset)
        return
    # Without sealing, so that nothing is compressed in between.
    collector = WorkloadCollector(len(points), auto_seal=False)
    collector.record_many(points)
    feed = HistoryFeed(collector)
    for update in feed.updates_for(feed.cursor()):
        yield msgspec.structs.replace(update, reset=reset, size=size)
        reset = False
