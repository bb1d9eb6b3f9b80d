"""Keeps the models of one plugin in a store that may fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from engine_ops.plugins.hosting import Backoff, Hosting
from engine_ops.plugins.model_store import ModelStoreError, SavedModels

logger = logging.getLogger(__name__)

TRACKERS_SECONDS: Final = 60.0
"""What is known of skill is written at most so often."""

LOAD_TRIES: Final = 4


class ModelKeeper:
    """Saves at once what has changed of the models, and once a minute what has changed of their skill.

    A store that fails is told in `problem` and tried again; nothing else depends on it.

    Parameters
    ----------
    name
        The plugin's.
    hosting
        Has the store and the clock.
    """

    def __init__(self, name: str, hosting: Hosting) -> None:
        self._name = name
        self._hosting = hosting
        self._backoff = Backoff()
        self._due_at: float | None = None
        self._not_before = 0.0
        self.problem: str | None = None

    async def load(self) -> SavedModels:
        """Return what was saved; nothing, where the store fails several times."""
        for tries_left in reversed(range(LOAD_TRIES)):
            try:
                saved = await self._hosting.store.load(self._name)
            except ModelStoreError as error:
                self._note(f"its models cannot be read: {error}")
                if tries_left:
                    await self._hosting.sleep(self._backoff.failed())
            else:
                self._clear()
                return saved
        return SavedModels()

    def changed(self, *, soon: bool) -> None:
        """Take note that there is something to save: now, or within a minute."""
        due_at = self._hosting.now() + (0.0 if soon else TRACKERS_SECONDS)
        if self._due_at is None or due_at < self._due_at:
            self._due_at = due_at

    @property
    def due_at(self) -> float | None:
        """When something is to be saved; None where there is nothing."""
        return None if self._due_at is None else max(self._due_at, self._not_before)

    async def save(self, collect: Callable[[], SavedModels], *, at_last: bool = False) -> None:
        """Save, if it is time.

        Parameters
        ----------
        collect
            Returns what is to be saved.
        at_last
            Whether there will be no other time.
        """
        due_at = self.due_at
        if due_at is None or (due_at > self._hosting.now() and not at_last):
            return
        self._due_at = None
        try:
            await self._hosting.store.save(self._name, collect())
        except ModelStoreError as error:
            self._note(f"its models cannot be kept: {error}")
            self.changed(soon=True)
            self._not_before = self._hosting.now() + self._backoff.failed()
        except asyncio.CancelledError:
            self.changed(soon=True)
            raise
        else:
            self._clear()

    async def forget(self) -> None:
        """Have the store forget the models.

        Raises
        ------
        ModelStoreError
            If it cannot.
        """
        self._due_at = None
        await self._hosting.store.forget(self._name)

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            logger.warning("plugin %s: %s", self._name, problem)
        self.problem = problem

    def _clear(self) -> None:
        self._backoff.reset()
        self._not_before = 0.0
        self.problem = None
