"""What the life of a plugin needs of its surroundings."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from engine_ops.api.optimizerplugin import OptimizerPluginSpec
from engine_ops.ml.scoring import RecentOutcomes
from engine_ops.plugins.instance import Instance
from engine_ops.plugins.model_store import MemoryModelStore, ModelStore, circumstances

FIRST_WAIT_SECONDS: Final = 2.0
LONGEST_WAIT_SECONDS: Final = 60.0


class HistorySource(Protocol):
    """The history that plugins learn from."""

    def points(self) -> int:
        """Return how many points there are."""


class MakeInstance(Protocol):
    """Makes an instance of a plugin, wherever its code runs. The instance is not started."""

    def __call__(
        self, name: str, spec: OptimizerPluginSpec, state: bytes, on_change: Callable[[], None], /
    ) -> Instance:
        """Make one.

        Parameters
        ----------
        name
            The plugin's.
        spec
            Its source, settings and limits.
        state
            Of the model that it is to have from its start; empty for none.
        on_change
            To be called on the event loop when something of the instance has changed.
        """


@dataclasses.dataclass(frozen=True)
class Hosting:
    """What all plugins share.

    Parameters
    ----------
    make_instance
        Makes processes, or clients of services.
    history
        None where none is kept: nothing is trained then.
    store
        Keeps models.
    baseline
        What every model is compared with. Whoever owns it has it observe every outcome once.
    training
        Held during a training: there is one at a time, for all plugins.
    now
        Seconds since the epoch.
    sleep
        Waits some seconds.
    """

    make_instance: MakeInstance
    history: HistorySource | None = None
    store: ModelStore = dataclasses.field(default_factory=MemoryModelStore)
    baseline: RecentOutcomes = dataclasses.field(default_factory=RecentOutcomes)
    training: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def points(self) -> int:
        """Return how many points of history there are."""
        return self.history.points() if self.history is not None else 0


@dataclasses.dataclass(frozen=True, slots=True)
class Edition:
    """What an instance is made of. Whatever else is in a spec changes without a new one.

    Parameters
    ----------
    made_with
        `circumstances` of its code and settings.
    limits
        As text.
    """

    made_with: str
    limits: str

    @classmethod
    def of(cls, spec: OptimizerPluginSpec) -> Edition:
        """Return the edition that a spec asks for."""
        return cls(circumstances(spec.source, spec.config), spec.limits.model_dump_json())


class Backoff:
    """How long to wait before the next try: 2 s, 4 s, up to 60 s."""

    def __init__(self) -> None:
        self._wait_seconds = 0.0

    def failed(self) -> float:
        """Return how many seconds to wait now."""
        self._wait_seconds = min(max(2 * self._wait_seconds, FIRST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
        return self._wait_seconds

    def reset(self) -> None:
        """Begin anew."""
        self._wait_seconds = 0.0
