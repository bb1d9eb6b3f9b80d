"""From the API's event loop to the engine's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from engine_ops.server.backend import Engine, PluginInfo
from engine_ops.server.questions import Improvement, Question, Reply
from engine_ops.server.stop_signal import StopSignal
from engine_ops.server.workload_points import PointFilter, Selection

T = TypeVar("T")


class EngineGone(Exception):  # noqa: N818 - no error of this program: it is ending
    """The engine's loop has ended."""


class BridgedEngine:
    """An `Engine` that lives on another loop, to be called from the API's.

    Parameters
    ----------
    engine
        The engine.
    loop
        Its loop.
    """

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop

    @property
    def workers(self) -> int:
        """See `Engine`."""
        return self._engine.workers

    def lineup(self, request_type: str, plugin: str | None) -> str:
        """See `Engine`."""
        return self._engine.lineup(request_type, plugin)

    async def answer(
        self, question: Question, *, on_improvement: Callable[[Improvement], None], stop: StopSignal
    ) -> Reply:
        """See `Engine`; ``on_improvement`` is called on this loop, and ``stop`` belongs to it."""
        here = asyncio.get_running_loop()

        def pass_on(improvement: Improvement) -> None:
            here.call_soon_threadsafe(on_improvement, improvement)

        stop_there = StopSignal()

        def stop_it() -> None:
            with contextlib.suppress(RuntimeError):  # that loop has ended: there is nothing to stop
                self._loop.call_soon_threadsafe(stop_there.set)

        with stop.calling(stop_it):
            return await self._call(self._engine.answer(question, on_improvement=pass_on, stop=stop_there))

    async def plugins(self) -> Sequence[PluginInfo]:
        """See `Engine`."""
        return await self._call(self._engine.plugins())

    async def plugin(self, name: str) -> PluginInfo | None:
        """See `Engine`."""
        return await self._call(self._engine.plugin(name))

    async def history_namespaces(self) -> frozenset[str]:
        """See `Engine`."""
        return await self._call(self._engine.history_namespaces())

    async def history(self, chosen: PointFilter) -> Selection | None:
        """See `Engine`."""
        return await self._call(self._engine.history(chosen))

    async def health(self) -> Mapping[str, Any]:
        """See `Engine`."""
        return await self._call(self._engine.health())

    async def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's loop. Cancelling the wait cancels it there.

        Raises
        ------
        EngineGone
            If that loop has ended.
        """
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise EngineGone("the engine has ended") from error
        return await asyncio.wrap_future(future)
