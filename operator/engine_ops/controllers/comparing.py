"""Plugins and the built-in algorithm on one request: who is served, and why the others are not."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

import msgspec

from engine_ops.api.reasons import Reason
from engine_ops.controllers.plugins import Plugin
from engine_ops.controllers.posed import Heard, Posed, Unheard, ask_aside, hear
from engine_ops.controllers.solving import Answered
from engine_ops.workers.messages import Failed, SolveTask

HEAD_START_SECONDS: Final = 0.02
"""For so long a plugin is waited for before the built-in is solved beside it."""

_PARTS: Final = 5
"""Of the head start."""

MAX_FALLBACK_REASON: Final = 1024
"""Characters of ``solvedBy.fallbackReason``; it is cut there."""

_LEAST_SECONDS: Final = 1.0
"""For holding a reply against an answer that is there; the request's time may be over by then."""

Solve = Callable[[Posed, SolveTask, float | None], Awaitable[Answered | Failed]]
"""Has a worker solve a task of a request, within so many seconds; None for the request's own limit."""


class LateAsks:
    """How many requests wait for each plugin though the built-in has answered them.

    Parameters
    ----------
    most
        So many wait for one plugin; further requests do without it, so that its slowness is not theirs.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: collections.Counter[str] = collections.Counter()

    def too_many(self, plugin: str) -> str | None:
        """Return why a plugin is not asked for now, if it is not."""
        waiting = self._waiting[plugin]
        return f"{waiting} requests wait for it already" if waiting >= self._most else None

    @contextlib.contextmanager
    def one(self, plugin: str) -> Iterator[None]:
        """Count one for as long as the body lasts."""
        self._waiting[plugin] += 1
        try:
            yield
        finally:
            self._waiting[plugin] -= 1
            if not self._waiting[plugin]:
                del self._waiting[plugin]


class Comparison:
    """One request that the built-in can answer too.

    Parameters
    ----------
    posed
        The request.
    solve
        The workers.
    late
        Of all requests.
    """

    def __init__(self, posed: Posed, solve: Solve, late: LateAsks) -> None:
        self._posed = posed
        self._solve = solve
        self._late = late
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._built_in: asyncio.Task[Answered | Failed] | None = None
        self._known: Answered | None = None
        """The built-in's answer that came with the judgement of a reply."""
        self._noes: list[str] = []
        self._passed_over: list[Plugin] = []
        self._enough = False

    async def run(self, plugins: Sequence[Plugin]) -> Answered | Failed:
        """Ask the plugins in turn until one is served, or none can be.

        Returns
        -------
        Answered or Failed
            The answer of a plugin, or the built-in's with the reasons why no plugin's is.
        """
        try:
            for place, plugin in enumerate(plugins):
                outcome = await self._try(plugin)
                if isinstance(outcome, Failed):
                    return outcome
                if outcome is not None or self._enough:
                    ask_aside(self._posed, plugins[place + 1 :])
                if outcome is not None:
                    return self._answered(outcome)
                self._passed_over.append(plugin)
                if self._enough:
                    break
            built_in = await self._without_plugins()
            return built_in if isinstance(built_in, Failed) else self._answered(built_in)
        finally:
            await _end(self._built_in)

    async def _try(self, plugin: Plugin) -> Answered | Failed | None:
        """Return what ends the request, or None if it goes on without this plugin."""
        busy = self._late.too_many(plugin.name)
        if busy is not None:
            self._no(plugin, busy)
            plugin.left_out()
            return None
        asking = asyncio.create_task(hear(self._posed, plugin))
        try:
            await self._wait_for(asking, plugin)
            if (failed := self._failed) is not None:
                return failed
            if not asking.done():
                self._no(plugin, self._posed.no_time_left)
                self._enough = True
                return None
            heard = asking.result()
        finally:
            await _end(asking)
        if isinstance(heard, Unheard):
            self._no(plugin, heard.why)
            return None
        return await self._judge(plugin, heard)

    async def _wait_for(self, asking: asyncio.Task[Heard | Unheard], plugin: Plugin) -> None:
        """Wait until the plugin has answered, or there is no time left, or the built-in has failed."""
        if not self._has_built_in:
            await self._give_head_start(asking)
            if asking.done():
                return
            self._start_built_in()
        if self._built_in is not None:
            await asyncio.wait(
                {asking, self._built_in}, timeout=self._left_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not self._built_in.done():
                return
        if asking.done() or self._failed is not None:
            return
        async with self._posed.turn.lent():
            with self._late.one(plugin.name):  # and not while it waits for its turn again
                await asyncio.wait({asking}, timeout=self._left_seconds)

    async def _give_head_start(self, asking: asyncio.Task[Heard | Unheard]) -> None:
        """Wait a little for the plugin alone.

        In parts, each of which counts once however long it took: where the event loop is late, so is the answer that
        may have come long ago, and the built-in would be solved for nothing, just when there is much to do.
        """
        for _ in range(_PARTS):
            if asking.done() or not self._left_seconds:
                return
            await asyncio.wait({asking}, timeout=min(HEAD_START_SECONDS / _PARTS, self._left_seconds))

    async def _judge(self, plugin: Plugin, heard: Heard) -> Answered | Failed | None:
        """Hold a reply against the request and the built-in's answer."""
        task, limit_seconds = heard.reply_to(self._posed.task), None
        if self._has_built_in:
            built_in = await self._without_plugins()
            if isinstance(built_in, Failed):
                return built_in
            task = msgspec.structs.replace(task, built_in=built_in.solved)
            limit_seconds = max(self._left_seconds, _LEAST_SECONDS)
        outcome = await self._solve(self._posed, task, limit_seconds)
        if isinstance(outcome, Failed):
            if outcome.reason == Reason.INVALID_DATA:
                return outcome
            # The reply may be at fault, or the request: the built-in alone will tell.
            why = f"holding what it said against the request ended with {outcome.reason}: {outcome.message}"
            plugin.judged(served=False, no=why, unusable=True)
            self._no(plugin, why)
            self._enough = not self._has_built_in
            return None
        solved = outcome.solved
        if solved.plugin_role:
            plugin.judged(served=True, no=solved.plugin_no, unusable=False)
            if solved.plugin_no:
                self._no(plugin, solved.plugin_no)
            return dataclasses.replace(outcome, share=heard.share(plugin.name))
        why = solved.plugin_no or "there was no time left to hold what it said against the request"
        plugin.judged(served=False, no=why, unusable=solved.plugin_unusable)
        self._no(plugin, why)
        if not self._has_built_in:
            self._known = outcome
        self._enough = not solved.plugin_unusable
        return None

    @property
    def _has_built_in(self) -> bool:
        return self._built_in is not None or self._known is not None

    @property
    def _failed(self) -> Failed | None:
        """How the built-in failed, if it has."""
        if self._built_in is None or not self._built_in.done():
            return None
        outcome = self._built_in.result()
        return outcome if isinstance(outcome, Failed) else None

    @property
    def _left_seconds(self) -> float:
        return max(0.0, self._started + self._posed.spec.timeout_seconds - self._loop.time())

    def _start_built_in(self) -> asyncio.Task[Answered | Failed]:
        async def solve() -> Answered | Failed:
            return await self._solve(self._posed, self._posed.task, None)

        self._built_in = asyncio.create_task(solve())
        return self._built_in

    async def _without_plugins(self) -> Answered | Failed:
        if self._known is not None:
            return self._known
        return await (self._built_in or self._start_built_in())

    def _no(self, plugin: Plugin, why: str) -> None:
        self._noes.append(f"{plugin.name}: {why}")

    def _answered(self, outcome: Answered) -> Answered:
        """Tell of the plugins that did not answer, and count the time from the first question on."""
        for plugin in self._passed_over:
            plugin.passed_over()
        outcome = with_reasons(outcome, self._noes)
        duration_ms = round((self._loop.time() - self._started) * 1000)
        return dataclasses.replace(outcome, solved=msgspec.structs.replace(outcome.solved, duration_ms=duration_ms))


def with_reasons(outcome: Answered, noes: Sequence[str]) -> Answered:
    """Return an answer with the reasons why plugins did not give it."""
    if not noes:
        return outcome
    reason = "; ".join(noes)
    if len(reason) > MAX_FALLBACK_REASON:
        reason = reason[: MAX_FALLBACK_REASON - 3] + "..."
    return dataclasses.replace(outcome, fallback_reason=reason)


async def _end(task: asyncio.Task[Answered | Failed] | asyncio.Task[Heard | Unheard] | None) -> None:
    """Cancel a task that is not done, and wait for its end."""
    if task is None:
        return
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # where nobody has looked at it, something else has ended the request
