"""What predicts from the history alone where no plugin can: there while it is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from engine_ops.api.optimizationrequest import RequestType
from engine_ops.api.optimizerplugin import (
    OptimizerPluginSpec,
    PluginSource,
    PluginTraining,
    RetrainPolicy,
    TrainingGate,
)
from engine_ops.plugins.hosted import HostedPlugin
from engine_ops.plugins.hosting import Hosting

FALLBACK: Final = "simple-predictor"
"""It is built in, and no OptimizerPlugin."""

IDLE_SECONDS: Final = 600.0
"""It is ended when nobody has needed it for so long: with every few outcomes it is trained on the whole history. Longer
than any request that waits for it goes without looking."""

_SPEC: Final = OptimizerPluginSpec(
    supported_types=[RequestType.ML_DRIVEN],
    source=PluginSource(entry_point="engine_ops.ml.examples.simple_predictor:SimplePredictorPlugin"),
    training=PluginTraining(
        gate=TrainingGate.NONE, retrain=RetrainPolicy(after_samples=25, interval_seconds=600, on_drift=False)
    ),
)


class Fallback:
    """Predicts requests of type ``ml-driven``. Belongs to one event loop.

    Parameters
    ----------
    hosting
        Its store keeps the model from one need to the next.
    on_change
        See `HostedPlugin`; also called when it has ended.
    """

    def __init__(self, hosting: Hosting, *, on_change: Callable[[], None]) -> None:
        self._hosting = hosting
        self._on_change = on_change
        self._hosted: HostedPlugin | None = None
        self._needed_at = 0.0
        self._watch: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def hosted(self) -> HostedPlugin | None:
        """What runs; None while nobody needs it."""
        return self._hosted

    def need(self) -> HostedPlugin:
        """Return what is to be asked; it is started if it is not there, and says no until it is trained."""
        self._needed_at = self._hosting.now()
        if self._hosted is None:
            self._hosted = HostedPlugin(FALLBACK, _SPEC, self._hosting, on_change=self._on_change)
            self._watch = asyncio.get_running_loop().create_task(self._end_when_idle(self._hosted))
        return self._hosted

    async def close(self) -> None:
        """End it, when its requests in flight have ended."""
        if self._watch is not None:
            self._watch.cancel()
        if self._hosted is not None:
            self._leave(self._hosted)
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _end_when_idle(self, hosted: HostedPlugin) -> None:
        while (left_seconds := self._needed_at + IDLE_SECONDS - self._hosting.now()) > 0:
            await self._hosting.sleep(left_seconds)
        self._leave(hosted)
        self._on_change()

    def _leave(self, hosted: HostedPlugin) -> None:
        self._hosted = None
        task = asyncio.get_running_loop().create_task(hosted.close())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
