"""What happens to one question on its way to an answer: the best answer so far, and whether a plugin was in trouble.

A question runs in a task of its own, and everything that is done for it in that task or in tasks that it starts: a
context variable tells whose course it is.
"""

from __future__ import annotations

import contextvars
import dataclasses
from collections.abc import Callable, Container, Sequence
from typing import Final

from engine_ops.api.reasons import Reason
from engine_ops.controllers.plugins import Plugin, Plugins, Said
from engine_ops.controllers.solving import Solvers
from engine_ops.plugins.messages import Ask
from engine_ops.workers.messages import Outcome, Solved, SolveTask


@dataclasses.dataclass(slots=True)
class Course:
    """One question.

    Parameters
    ----------
    best
        The latest answer, be it the last or not.
    troubled
        Whether a plugin gave no answer for a reason that may pass: it failed, was too slow, was busy or starting, or
        what it said was of no use.
    """

    best: Solved | None = None
    troubled: bool = False


COURSE: Final[contextvars.ContextVar[Course | None]] = contextvars.ContextVar("course", default=None)
"""Of the question that the running task works for."""


def _troubled() -> None:
    course = COURSE.get()
    if course is not None:
        course.troubled = True


class KeepingSolvers:
    """Solvers whose answers are kept in the course of the question.

    The last word of the built-in would else be lost where a question is stopped that waits for a plugin still.

    Parameters
    ----------
    solvers
        Who solves.
    """

    def __init__(self, solvers: Solvers) -> None:
        self._solvers = solvers

    async def run(
        self,
        task: SolveTask,
        *,
        timeout_seconds: float,
        on_incumbent: Callable[[Solved], None] | None = None,
    ) -> Outcome:
        """See `Solvers`."""
        outcome = await self._solvers.run(task, timeout_seconds=timeout_seconds, on_incumbent=on_incumbent)
        course = COURSE.get()
        if course is not None and isinstance(outcome, Solved):
            course.best = outcome
        return outcome


class WitnessedPlugins:
    """Plugins whose troubles are noted in the course of the question.

    Parameters
    ----------
    plugins
        The plugins.
    """

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    def awaited(self, request_type: str, states: Container[Reason]) -> Sequence[str]:
        """See `Plugins`."""
        return self._plugins.awaited(request_type, states)

    def select(self, request_type: str, pinned: str | None) -> Sequence[Plugin]:
        """See `Plugins`."""
        return [_Witnessed(plugin) for plugin in self._plugins.select(request_type, pinned)]

    def fallback(self) -> Plugin | None:
        """See `Plugins`."""
        fallback = self._plugins.fallback()
        return None if fallback is None else _Witnessed(fallback)


class _Witnessed:
    """A plugin; see `Plugin`."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin

    @property
    def name(self) -> str:
        return self._plugin.name

    async def ask(self, ask: Ask, *, point: bytes | None, workload: str | None, needs_prediction: bool) -> Said:
        try:
            said = await self._plugin.ask(ask, point=point, workload=workload, needs_prediction=needs_prediction)
        except BaseException:
            _troubled()  # cancelled too: it was too slow
            raise
        if not (said.envelope or said.declined or said.shadow):
            _troubled()
        return said

    def shadow(self, ask: Ask, *, point: bytes | None, workload: str | None) -> None:
        self._plugin.shadow(ask, point=point, workload=workload)

    def judged(self, *, served: bool, no: str, unusable: bool) -> None:
        if unusable:
            _troubled()
        self._plugin.judged(served=served, no=no, unusable=unusable)

    def left_out(self) -> None:
        _troubled()
        self._plugin.left_out()

    def passed_over(self) -> None:
        self._plugin.passed_over()
