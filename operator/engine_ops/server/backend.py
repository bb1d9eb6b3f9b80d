"""What the REST API needs of the rest: an engine that answers, and a history to read.

The API is served by a thread with an event loop of its own. What belongs to the engine (`Engine`) runs on the engine's
loop and is reached through `engine_ops.server.bridge`; what asks the API server for permission
(`engine_ops.server.callers.Access`, `engine_ops.server.plugin_changes.PluginSwitch`) runs on the API's own loop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from engine_ops.server.questions import Improvement, Question, Reply
from engine_ops.server.stop_signal import StopSignal
from engine_ops.server.workload_points import PointFilter, Selection


@dataclasses.dataclass(frozen=True, slots=True)
class PluginInfo:
    """A plugin, as the API shows it.

    Parameters
    ----------
    name
        Of the OptimizerPlugin, or the plugin's own without Kubernetes.
    version, description
        The plugin's own words; empty until it has been opened.
    types
        Request types that it handles.
    enabled, priority, config
        Its settings.
    status
        JSON values for people who look closer: state, message, model, skill, counts, latency, last error.
    """

    name: str
    version: str
    description: str
    types: tuple[str, ...]
    enabled: bool
    priority: int
    config: Mapping[str, Any]
    status: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Engine(Protocol):
    """What answers. Its coroutine methods run on the engine's loop; the others may be called on any thread."""

    @property
    def workers(self) -> int:
        """How many questions are solved at once."""

    def lineup(self, request_type: str, plugin: str | None) -> str:
        """Name who would be asked, in which state of learning: a cached answer is good only while it is the same."""

    async def answer(
        self, question: Question, *, on_improvement: Callable[[Improvement], None], stop: StopSignal
    ) -> Reply:
        """Answer a question, and record it in the history.

        Cancelling ends the work at once, with nothing recorded but that it was given up.

        Parameters
        ----------
        question
            The question.
        on_improvement
            Called on the engine's loop with better and better answers.
        stop
            Belongs to the engine's loop. When it is set the best answer so far is returned, if there is one.
        """

    async def plugins(self) -> Sequence[PluginInfo]:
        """Return all plugins by name."""

    async def plugin(self, name: str) -> PluginInfo | None:
        """Return one; None where there is none of this name."""

    async def history_namespaces(self) -> frozenset[str]:
        """Return the namespaces that there are points of."""

    async def history(self, chosen: PointFilter) -> Selection | None:
        """Return points of the history; None where none is kept."""

    async def health(self) -> Mapping[str, Any]:
        """Return numbers about itself, as JSON values, by part."""
