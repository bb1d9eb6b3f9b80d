"""How a request is answered where there are plugins: the first that can, held against the built-in, and what if not.

A plugin is asked first. If it has not answered soon, the built-in is solved meanwhile, so that a slow plugin costs a
request nothing but time, and others nothing at all: while a request waits for a plugin alone, its turn is another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

import msgspec

from engine_ops.api.optimizationrequest import NO_PLUGIN, RequestType
from engine_ops.api.reasons import Reason
from engine_ops.controllers.comparing import Comparison, LateAsks, with_reasons
from engine_ops.controllers.plugins import Plugin, Plugins
from engine_ops.controllers.posed import Heard, Posed, Unheard, ask_aside, hear
from engine_ops.controllers.solving import Answered, Solvers, run_task
from engine_ops.plugins.fallback import FALLBACK
from engine_ops.plugins.own_fields import needs_prediction
from engine_ops.workers.frames import MAX_FRAME_BYTES
from engine_ops.workers.messages import Failed, SolveTask

_STARTING: Final = frozenset({Reason.STARTING})
_LATER: Final = frozenset({Reason.STARTING, Reason.PLUGIN_UNAVAILABLE, Reason.DISABLED})

_HISTORY_SECONDS: Final = 5.0

_NOT_REPACKING: Final = "plugins are not asked about packing a live cluster anew"


class _Described(msgspec.Struct):
    """As much as is looked at of the live cluster as plugins see it."""

    nodes: list[msgspec.Raw]
    tasks: list[msgspec.Raw] = []
    task: msgspec.Raw | None = None

    @property
    def can_be_placed(self) -> bool:
        """Whether there is anything to be placed, and anywhere to place it."""
        return bool(self.nodes) and (self.task is not None or bool(self.tasks))


_DESCRIBED: Final = msgspec.json.Decoder(_Described)


class Asking:
    """Answers requests with plugins and the built-in algorithms.

    Parameters
    ----------
    pool
        The solvers. Its handler must know plugins (`engine_ops.plugins.judging.HANDLER`) if there are any.
    plugins
        The plugins.
    late
        So many requests wait for one plugin beside those whose turn it is; further ones do without it.
    can_wait
        Whether a request may wait for a plugin that nobody has named yet: the one and the other come from the same
        commit, and in any order.
    """

    def __init__(self, pool: Solvers, plugins: Plugins, *, late: int, can_wait: bool = False) -> None:
        self._pool = pool
        self._plugins = plugins
        self._can_wait = can_wait
        self._late = LateAsks(late)
        self._predicting = asyncio.Semaphore(late)

    async def answer(self, posed: Posed) -> Answered | Failed:
        """Answer a request.

        Returns
        -------
        Answered or Failed
            As `engine_ops.controllers.solving.run_task` has them. Waiting with NoPlugin or NotEnoughData where only a
            plugin could answer and none does.
        """
        task, pinned = posed.task, posed.spec.plugin
        plugins = () if pinned == NO_PLUGIN else self._plugins.select(task.type, pinned)
        if pinned is not None and pinned != NO_PLUGIN and not plugins:
            nobody = f"no enabled plugin that can handle type {task.type} has the name {pinned!r}"
            return Failed(Reason.NO_PLUGIN, f"{posed.named('plugin')}: {nobody}", waiting=True)
        if posed.spec.type is RequestType.ML_DRIVEN:
            return await self._predict(posed, plugins)
        if not task.cluster and needs_prediction(task.type, task.data):
            return await self._predict(posed, plugins)
        if not plugins:
            return await self._solve(posed, task)
        if task.cluster:
            return await self._look_at_cluster(posed, plugins)
        return await Comparison(posed, self._solve, self._late).run(plugins)

    async def _solve(self, posed: Posed, task: SolveTask, timeout_seconds: float | None = None) -> Answered | Failed:
        return await run_task(
            self._pool, task, posed.spec, posed.on_incumbent, timeout_seconds=timeout_seconds, root=posed.root
        )

    async def _look_at_cluster(self, posed: Posed, plugins: Sequence[Plugin]) -> Answered | Failed:
        """Answer a request about the live cluster. Plugins see it as if the request named its tasks and nodes."""
        if posed.spec.type is not RequestType.SCHEDULING:
            noes = [f"{plugin.name}: {_NOT_REPACKING}" for plugin in plugins]
            outcome = await self._solve(posed, posed.task)
            return outcome if isinstance(outcome, Failed) else with_reasons(outcome, noes)
        described = await self._solve(
            posed, msgspec.structs.replace(posed.task, describe=True, inline_limit_bytes=MAX_FRAME_BYTES)
        )
        if isinstance(described, Failed):
            return await self._solve(posed, posed.task)  # which says what is wrong in its own words
        seen = described.solved.result
        if not _DESCRIBED.decode(seen).can_be_placed:
            return await self._solve(posed, posed.task)
        return await Comparison(dataclasses.replace(posed, seen=seen), self._solve, self._late).run(plugins)

    async def _predict(self, posed: Posed, plugins: Sequence[Plugin]) -> Answered | Failed:
        """Answer what no built-in can."""
        noes: list[str] = []
        short_of_data = False
        time = _Time(float(posed.spec.timeout_seconds))
        for place, plugin in enumerate(plugins):
            heard = await self._wait_for(posed, plugin, time)
            if isinstance(heard, Unheard):
                short_of_data |= heard.short_of_data
                noes.append(f"{plugin.name}: {heard.why}")
                continue
            outcome = await self._solve(posed, heard.reply_to(posed.task))
            if isinstance(outcome, Answered):
                plugin.judged(served=True, no="", unusable=False)
                _pass_over(plugins[:place])
                ask_aside(posed, plugins[place + 1 :])
                return with_reasons(dataclasses.replace(outcome, share=heard.share(plugin.name)), noes)
            if outcome.reason == Reason.INVALID_DATA:
                return outcome
            plugin.judged(served=False, no=outcome.message, unusable=True)
            noes.append(f"{plugin.name}: {outcome.message}")
        if posed.spec.type is RequestType.ML_DRIVEN and posed.spec.plugin is None:
            starting = self._plugins.awaited(posed.task.type, _STARTING)
            if starting:  # averages would be quicker, and worse than what is about to be there
                return Failed(Reason.NO_PLUGIN, "; ".join([*noes, *starting]), waiting=True)
            outcome = await self._predict_from_history(posed, noes)
            if isinstance(outcome, Answered):
                _pass_over(plugins)
            return outcome
        if not plugins and posed.spec.plugin is None:
            return await self._solve_or_wait(posed)
        return await self._no_plugin(posed, noes, short_of_data=short_of_data)

    async def _solve_or_wait(self, posed: Posed) -> Answered | Failed:
        """Wait with data that the built-in cannot read where a plugin may answer it once: it is not at fault yet."""
        outcome = await self._solve(posed, posed.task)
        if not isinstance(outcome, Failed) or not _lacks_fields(outcome, posed.task):
            return outcome
        later = self._plugins.awaited(posed.task.type, _LATER)
        if not later and not self._can_wait:
            return outcome
        who = "; ".join(later) or _nobody(posed.task.type)
        return Failed(Reason.NO_PLUGIN, f"{outcome.message}; or only a plugin can answer it: {who}", waiting=True)

    async def _predict_from_history(self, posed: Posed, noes: list[str]) -> Answered | Failed:
        fallback = self._plugins.fallback()
        if fallback is None:
            return await self._no_plugin(posed, noes)
        # Whatever the plugins took of the request's time: without them there would be an answer.
        heard = await self._wait_for(posed, fallback, _Time(_HISTORY_SECONDS))
        if isinstance(heard, Unheard):
            reason = Reason.NOT_ENOUGH_DATA if heard.short_of_data else Reason.NO_PLUGIN
            asked = noes or [_nobody(posed.task.type)]
            return Failed(reason, "; ".join([*asked, f"{FALLBACK}: {heard.why}"]), waiting=True)
        outcome = await self._solve(posed, heard.reply_to(posed.task, FALLBACK))
        if isinstance(outcome, Answered):
            return with_reasons(dataclasses.replace(outcome, share=heard.share(None)), noes)
        return outcome

    async def _no_plugin(self, posed: Posed, noes: Sequence[str], *, short_of_data: bool = False) -> Answered | Failed:
        if noes:
            reason = Reason.NOT_ENOUGH_DATA if short_of_data else Reason.NO_PLUGIN
            return Failed(reason, "; ".join(noes), waiting=True)
        return await self._solve(posed, posed.task)  # where data cannot be read, its user is told that first

    async def _wait_for(self, posed: Posed, plugin: Plugin, time: _Time) -> Heard | Unheard:
        """Ask a plugin that nothing can stand in for; return why it has no answer, if so."""
        async with posed.turn.lent(self._predicting):
            try:
                async with time.spent():
                    return await hear(posed, plugin, needs_prediction=True)
            except TimeoutError:
                return Unheard(posed.no_time_left)


def _lacks_fields(outcome: Failed, task: SolveTask) -> bool:
    """Whether data could be read, and is at fault by its fields alone: others may be a plugin's."""
    return outcome.reason == Reason.INVALID_DATA and any(
        path.startswith(f"{task.data_path}.") for path, _ in outcome.faults
    )


def _nobody(request_type: str) -> str:
    return f"no enabled plugin can handle type {request_type}"


def _pass_over(plugins: Iterable[Plugin]) -> None:
    for plugin in plugins:
        plugin.passed_over()


class _Time:
    """What is left of a request's time; waiting for a turn takes none of it."""

    def __init__(self, seconds: float) -> None:
        self._left_seconds = seconds

    @contextlib.asynccontextmanager
    async def spent(self) -> AsyncIterator[None]:
        """Raise `TimeoutError` where the body takes longer than what is left."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(max(0.0, self._left_seconds)):
                yield
        finally:
            self._left_seconds -= loop.time() - started
