"""A request on its way to plugins and solvers, and what plugins said to it."""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from engine_ops.api.optimizationrequest import OptimizationRequestSpec, RequestType
from engine_ops.api.reasons import Reason
from engine_ops.api.status import Attempt
from engine_ops.controllers.plugins import Plugin, Said
from engine_ops.controllers.solving import PluginShare, no_answer_within
from engine_ops.controllers.turns import Turn
from engine_ops.engine.performance.hold_out import older_data
from engine_ops.history.keys import key_of
from engine_ops.history.outcomes.joining import SELECTOR
from engine_ops.history.outcomes.pods import selector_text
from engine_ops.kube.target import Target
from engine_ops.ml.keys import key_of_workload
from engine_ops.plugins.messages import Ask
from engine_ops.workers.frames import MAX_FRAME_BYTES
from engine_ops.workers.messages import PluginReply, Solved, SolveTask

logger = logging.getLogger(__name__)

_LONGEST_REPLY: Final = MAX_FRAME_BYTES // 2
"""With the built-in's answer beside it, a task must fit one frame."""


@dataclasses.dataclass(frozen=True, slots=True)
class Posed:
    """A request, ready to be answered.

    Parameters
    ----------
    target, attempt
        Which object, and which solve of it.
    spec
        The question.
    task
        The same for a solver's worker.
    turn
        The request's; it is lent to others while plugins are waited for.
    on_incumbent
        Told of the built-in's better and better answers.
    seen
        JSON of what plugins see in place of the data: the live cluster; empty where they see the data itself.
    root
        What the fields' names begin with where who asks has written them: ``spec.`` in a resource, nothing over HTTP.
    """

    target: Target
    attempt: Attempt
    spec: OptimizationRequestSpec
    task: SolveTask
    turn: Turn
    on_incumbent: Callable[[Solved], None] | None = None
    seen: bytes = b""
    root: str = "spec."

    def named(self, field: str) -> str:
        """Return a field's name for sentences that who asks is told, such as ``spec.plugin``."""
        return f"{self.root}{field}"

    @property
    def no_time_left(self) -> str:
        """Why there is no answer of who has taken all the time; to be told."""
        return no_answer_within(self.spec, self.root)

    @property
    def point(self) -> bytes:
        """Key of the history point of this solve."""
        return key_of(self.target.uid, self.target.generation, self.attempt.run)

    @property
    def workload(self) -> dict[str, str] | None:
        """The workload that the answer is for, as the history will name it."""
        reference, selector = self.spec.workload_ref, self.spec.workload_selector
        if selector is not None:
            name = selector_text(selector.to_manifest())
            return {"namespace": self.target.namespace, "kind": SELECTOR, "name": name}
        if reference is None:
            return None
        return {"namespace": self.target.namespace, "kind": reference.kind, "name": reference.name}

    @property
    def workload_key(self) -> str | None:
        """Its `engine_ops.ml.keys.workload_key`."""
        return None if self.workload is None else key_of_workload(self.workload)

    def ask(self) -> Ask:
        """Return the request as plugins see it."""
        extra: dict[str, Any] = {
            "timestamp": _epoch_ms(self.attempt.started),
            "namespace": self.target.namespace,
        }
        if self.workload is not None:
            extra["workload"] = self.workload
        return Ask(
            request_id=str(self.target),
            type=self.task.type,
            data=self.seen or self.task.data,
            constraints=self.task.constraints,
            data_format="json" if self.seen else self.task.data_format,
            extra=msgspec.json.encode(extra),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """Something that a plugin said, to be held against the request.

    Parameters
    ----------
    said
        To the request.
    backtest
        JSON of what it returned for the older samples alone; empty where it was not asked, or had nothing to say.
    """

    said: Said
    backtest: bytes = b""

    def reply_to(self, task: SolveTask, name: str | None = None) -> SolveTask:
        """Return the task with the reply, as if it were of a plugin with another name if one is given."""
        said = self.said
        reply = PluginReply(name or said.plugin, said.version, said.envelope or b"", backtest=self.backtest)
        return msgspec.structs.replace(task, reply=reply)

    def share(self, plugin: str | None) -> PluginShare:
        """Return what the status says of the plugin; None for what is no plugin."""
        said = self.said
        return PluginShare(plugin, said.version, said.model_id, said.confidence, said.claimed_confidence)


@dataclasses.dataclass(frozen=True, slots=True)
class Unheard:
    """Nothing that could be held against the request.

    Parameters
    ----------
    why
        A sentence.
    short_of_data
        Whether the history is too short.
    """

    why: str
    short_of_data: bool = False


async def hear(posed: Posed, plugin: Plugin, *, needs_prediction: bool = False) -> Heard | Unheard:
    """Ask a plugin.

    Parameters
    ----------
    posed
        The request.
    plugin
        Whom to ask.
    needs_prediction
        Whether there is no built-in answer.

    Returns
    -------
    Heard or Unheard
        What it said. Nothing is raised.
    """
    ask, workload = posed.ask(), posed.workload_key
    try:
        backtest = b""
        older = _older(ask) if posed.spec.type is RequestType.PERFORMANCE and not needs_prediction else None
        if older is not None:
            # First: what has seen the newest samples cannot be asked what it would have said without them.
            tried = await plugin.ask(older, point=None, workload=workload, needs_prediction=False)
            backtest = tried.envelope or b""
        said = await plugin.ask(ask, point=posed.point, workload=workload, needs_prediction=needs_prediction)
    except Exception as error:
        logger.exception("%s: plugin %s could not be asked", posed.target, plugin.name)
        return Unheard(f"asking it failed with {type(error).__name__}; the operator's log has the traceback")
    if said.no:
        return Unheard(said.no, said.waiting is Reason.NOT_ENOUGH_DATA)
    if said.shadow:
        return Unheard("its model is in shadow")
    if not said.envelope:
        return Unheard("it said nothing")
    if len(said.envelope) + len(backtest) + len(ask.data) > _LONGEST_REPLY:
        return Unheard(f"what it said is too long: {len(said.envelope)} bytes")
    return Heard(said, backtest)


def ask_aside(posed: Posed, plugins: Iterable[Plugin]) -> None:
    """Have plugins asked in the background that were not needed: their models in shadow are scored all the same."""
    for plugin in plugins:
        try:
            plugin.shadow(posed.ask(), point=posed.point, workload=posed.workload_key)
        except Exception:
            logger.exception("%s: plugin %s could not be asked aside", posed.target, plugin.name)


def _older(ask: Ask) -> Ask | None:
    """Return the question about the older samples; None where nothing can be tried."""
    try:
        data = msgspec.json.decode(ask.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # YAML would take a hundred times as long to read, here where every request waits
    older = older_data(data) if isinstance(data, dict) else None
    return None if older is None else msgspec.structs.replace(ask, data=msgspec.json.encode(older))


def _epoch_ms(moment: datetime.datetime) -> int:
    return round(moment.timestamp() * 1000)
