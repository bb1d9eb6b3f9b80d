"""Starts the instances of one plugin that its spec asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from engine_ops.api.reasons import Reason
from engine_ops.plugins.hosting import Backoff, Edition
from engine_ops.plugins.instance import Instance, PluginBrokenError, PluginUnavailableError
from engine_ops.plugins.messages import Opened
from engine_ops.plugins.plugin_state import PluginState, Problem
from engine_ops.plugins.trained_model import TrainedModel

logger = logging.getLogger(__name__)


class Opener:
    """Starts one instance at a time; what cannot be started is told in `PluginState.problem`, and tried again later.

    Parameters
    ----------
    state
        The plugin.
    on_change
        Called when there is something to look at, and by the instances.
    opened
        Called when an instance was put to use.
    """

    def __init__(self, state: PluginState, *, on_change: Callable[[], None], opened: Callable[[], None]) -> None:
        self._state = state
        self._on_change = on_change
        self._opened = opened
        self._opening: asyncio.Task[Opened] | None = None
        self._rejected: Edition | None = None
        self._backoff = Backoff()
        self._has_retired = False
        self.retry_at = 0.0
        """Nothing is started before; seconds since the epoch."""

    def spec_changed(self) -> None:
        """Begin anew: code, settings or limits are others now."""
        self.retry_at = 0.0
        self._backoff.reset()
        self._rejected = None
        self._state.problem = None
        if self._opening is not None:
            self._opening.cancel()

    def back_off(self) -> float:
        """Start nothing for a while, and return for how many seconds."""
        wait_seconds = self._backoff.failed()
        self.retry_at = self._state.hosting.now() + wait_seconds
        return wait_seconds

    async def open_what_is_missing(self) -> None:
        """Start the next instance that the spec asks for, if it is time, and wait until it has started or could not."""
        state = self._state
        if self.retry_at > state.hosting.now() or state.wanted == self._rejected:
            return
        edition = state.wanted
        roles = state.wanted_roles(edition)
        if self._is_new(edition):
            model = roles.active or roles.candidate
        else:
            model = state.lineup.missing(roles)
            if model is None and state.lineup.instance is not None:
                return
        saved = model.state if model is not None else b""
        instance = state.hosting.make_instance(state.name, state.spec, saved, self._on_change)
        if edition != state.edition and state.lineup.instance is not None and state.spec.source.service is not None:
            state.lineup.instance.retire()
            self._has_retired = True
        try:
            opened = await self._open(instance)
        except PluginBrokenError as error:
            self._could_not_open(error, edition, model)
        except PluginUnavailableError as error:
            self._wait_for(Problem(Reason.PLUGIN_UNAVAILABLE, error.message), edition)
        except BaseException:
            state.lineup.discard(instance)
            raise
        else:
            if opened and edition == state.wanted and self._has_opened(instance, edition, model):
                return
        state.lineup.discard(instance)
        self._on_change()

    async def _open(self, instance: Instance) -> bool:
        """Start an instance; return whether no other spec came in between."""
        opening = self._opening = asyncio.get_running_loop().create_task(instance.start())
        try:
            await asyncio.wait({opening})
            if not opening.cancelled():
                opening.result()
            return not opening.cancelled()
        finally:
            self._opening = None
            if not opening.done():
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
            elif not opening.cancelled():
                opening.exception()  # where nobody waits any more, it is of no interest

    def _has_opened(self, instance: Instance, edition: Edition, model: TrainedModel | None) -> bool:
        """Put an instance to use; return whether there is any."""
        state = self._state
        lineup = state.lineup
        self._backoff.reset()
        state.problem = None
        self._rejected = None
        if model is not None and model not in tuple(lineup.shelf):
            return False
        if self._is_new(edition):
            lineup.take_over(instance, model)
            state.edition = edition
            self._has_retired = False
        elif model is not None and model.instance is None:
            model.instance = instance
        elif model is None and lineup.instance is None:
            lineup.base = instance
        else:
            return False
        self._opened()
        self._on_change()
        return True

    def _is_new(self, edition: Edition) -> bool:
        """Whether another instance is to take over; also where settings came back that were on their way out."""
        return edition != self._state.edition or self._has_retired

    def _could_not_open(self, error: PluginBrokenError, edition: Edition, model: TrainedModel | None) -> None:
        state = self._state
        if error.stage == "load" and model is not None:
            logger.warning("plugin %s: model %s cannot be loaded: %s", state.name, model.digest, error.message)
            state.lineup.shelf.remove(model)
            state.keeper.changed(soon=True)
            return
        invalid = error.stage == "config"
        problem = Problem(Reason.INVALID_CONFIG if invalid else Reason.LOAD_FAILED, error.message, error.faults)
        if edition == state.wanted and edition != state.edition:
            # What is served is what the spec says, or nothing.
            state.trainer.cancel()
            state.lineup.take_over(None, None)
            state.edition = None
            if invalid:
                self._rejected = edition
        self._wait_for(problem, edition)

    def _wait_for(self, problem: Problem, edition: Edition) -> None:
        state = self._state
        if edition != state.wanted:
            return
        state.problem = problem
        wait_seconds = self.back_off()
        again = "" if edition == self._rejected else f"; tried again in {wait_seconds:g} s"
        logger.warning("plugin %s: %s: %s%s", state.name, problem.reason, problem.message, again)
        self._on_change()
