"""The life of one plugin: started, asked, trained, promoted, replaced, ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from engine_ops.api.optimizerplugin import OptimizerPluginSpec
from engine_ops.plugins.asker import Asker, Question
from engine_ops.plugins.hosted_snapshot import snapshot_of
from engine_ops.plugins.hosting import Edition, Hosting
from engine_ops.plugins.lineup import Lineup
from engine_ops.plugins.messages import Ask, Opened
from engine_ops.plugins.model_keeper import ModelKeeper
from engine_ops.plugins.model_store import SavedModels
from engine_ops.plugins.opener import Opener
from engine_ops.plugins.plugin_state import PluginState
from engine_ops.plugins.said import Said
from engine_ops.plugins.snapshot import PluginSnapshot
from engine_ops.plugins.succession import Succession
from engine_ops.plugins.trained_model import TrainedModel
from engine_ops.plugins.trainer import Trainer
from engine_ops.plugins.trials import Trials

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 10.0
"""At least so often a plugin is looked at: the history may have grown, a training be due."""

SAVE_AT_LAST_SECONDS: Final = 5.0


class HostedPlugin:
    """One plugin, as its spec wants it.

    Specs come at any time, and the last one counts; what takes time happens in the background. Requests in flight are
    never lost: an instance that is replaced answers what it was given, and a request that came too late for it goes to
    the next. Belongs to one event loop.

    Parameters
    ----------
    name
        Of the OptimizerPlugin.
    spec
        The first one. A plugin that is not enabled is not started before it is.
    hosting
        What it shares with the others.
    on_change
        Called when what `snapshot` shows has changed; not for counts, latencies and skill.
    """

    def __init__(
        self,
        name: str,
        spec: OptimizerPluginSpec,
        hosting: Hosting,
        *,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._hosting = hosting
        self._on_change = on_change
        lineup = Lineup(name)
        trainer = Trainer(
            name,
            hosting,
            has_trained=self._has_trained,
            discard=lineup.discard,
            on_change=self._instance_changed,
        )
        self._state = PluginState(
            name, spec, Edition.of(spec), hosting, lineup, trainer, Trials(), ModelKeeper(name, hosting)
        )
        self._wake = asyncio.Event()
        self._succession = Succession(self._state, on_change=on_change, wake=self._wake.set)
        self._asker = Asker(self._state, lost=self._succession.models_lost, heard=self._succession.has_replied)
        self._opener = Opener(self._state, on_change=self._instance_changed, opened=self._succession.settle)
        self._loaded = False
        self._life: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._start_if_wanted()

    @property
    def spec(self) -> OptimizerPluginSpec:
        """What was applied last."""
        return self._state.spec

    @property
    def opened(self) -> Opened | None:
        """What the plugin says of itself; None while it cannot be asked."""
        return self._state.opened

    def can_handle(self, request_type: str) -> bool:
        """Return whether requests of a type may go to the plugin: it runs, and takes them."""
        opened = self.opened
        return opened is not None and self._closing is None and request_type in opened.types

    def ability(self) -> tuple[object, ...]:
        """Return what decides whom requests go to, and who answers; those that wait are tried again when it changes."""
        state = self._state
        opened, instance = state.opened, state.lineup.instance
        return (
            self._closing is None and state.spec.enabled,
            state.spec.priority,
            state.spec.supported_types,
            state.spec.mode,
            state.spec.training.gate,
            opened.types if opened is not None else None,
            instance is None or instance.unavailable is not None,
            tuple(model.digest if model is not None else "" for model in state.lineup.roles),
            state.lineup.base is not None and state.trainer.is_busy,
        )

    async def apply(self, spec: OptimizerPluginSpec) -> None:
        """Take a new spec. Returns at once.

        Parameters
        ----------
        spec
            In place of the one before. New code, settings or limits are made ready before they take over, and where the
            plugin was disabled, nobody is asked before. All else takes effect at once, and restarts nothing.
        """
        state = self._state
        if self._closing is not None or spec == state.spec:
            return
        was_enabled, before = state.spec.enabled, state.wanted
        state.spec, state.wanted = spec, Edition.of(spec)
        if spec.enabled and not was_enabled and state.edition not in (None, state.wanted):
            state.lineup.take_over(None, None)
            state.edition = None
        if state.wanted != before:
            self._opener.spec_changed()
            state.trainer.cancel()
        if spec.training.pinned_model is not None:
            state.trainer.cancel()
        for model in state.lineup.shelf:
            model.tracker.tolerance = spec.training.tolerance_factor
        self._succession.settle()
        self._start_if_wanted()
        self._wake.set()
        self._on_change()

    async def ask(
        self,
        ask: Ask,
        *,
        point: bytes | None,
        workload: str | None,
        needs_prediction: bool,
        timeout_seconds: float | None = None,
    ) -> Said:
        """Ask the plugin.

        Parameters
        ----------
        ask
            The request.
        point
            The key under which its outcome will be told; None where it is neither to be scored nor counted.
        workload
            Its `engine_ops.ml.keys.workload_key`.
        needs_prediction
            Whether its data holds nothing that the built-in could solve.
        timeout_seconds
            In place of the limit of the spec.

        Returns
        -------
        Said
            It raises nothing but `asyncio.CancelledError`.
        """
        question = Question(ask, None if point is None else point.hex(), workload)
        return await self._asker.ask(question, needs_prediction=needs_prediction, timeout_seconds=timeout_seconds)

    def shadow(self, ask: Ask, *, point: bytes | None, workload: str | None) -> None:
        """Ask the models in the background, only to score what they say.

        Parameters
        ----------
        ask, point, workload
            As for `ask`.
        """
        if self._state.spec.enabled and point is not None:
            self._asker.ask_aside(Question(ask, point.hex(), workload))

    def judged(self, *, served: bool, no: str, unusable: bool) -> None:
        """Take note of what became of a reply with an envelope.

        Parameters
        ----------
        served
            Whether it was served, or followed as advice.
        no
            Why not.
        unusable
            Whether the plugin is to blame: it was infeasible, or nonsense.
        """
        instance = self._state.lineup.instance
        if unusable and not served:
            self._state.count_unusable()
            if instance is not None:
                instance.blame(no)

    def left_out(self) -> None:
        """Take note of a request that it was not asked, though its turn had come."""
        self._state.count("left_out")

    def passed_over(self) -> None:
        """Take note that another has answered a request that it was asked, or left out of."""
        self._state.count_fallback()

    def outcome(self, point: str | None, values: Mapping[str, float]) -> None:
        """Take note of an outcome. Told of every point once.

        Parameters
        ----------
        point
            Its key as hexadecimal digits; None where it has none.
        values
            `engine_ops.ml.scoring.actual_values` of it.
        """
        state = self._state
        state.trainer.points_since += 1
        state.trainer.points_since_failure += 1
        if point is not None:
            self._succession.outcome(point, values)
        if state.reason_to_train() is not None:
            self._wake.set()

    def snapshot(self) -> PluginSnapshot:
        """Return how the plugin stands."""
        return snapshot_of(self._state)

    async def close(self, *, forget: bool = False) -> None:
        """Ask no more, let requests in flight end, save, and end every process. Idempotent.

        Parameters
        ----------
        forget
            Whether to remove the models from the store instead.

        Raises
        ------
        ModelStoreError
            If they are to be removed, and cannot be. All else has ended.
        """
        if self._closing is None:
            self._succession.end()
            self._closing = asyncio.get_running_loop().create_task(self._close(forget))
        await asyncio.shield(self._closing)

    def _has_trained(self, model: TrainedModel, edition: Edition) -> None:
        self._succession.has_trained(model, edition)  # which comes to be after the trainer

    def _start_if_wanted(self) -> None:
        if self._state.spec.enabled and self._life is None and self._closing is None:
            self._life = asyncio.get_running_loop().create_task(self._live())

    def _instance_changed(self) -> None:
        self._wake.set()
        self._on_change()

    async def _live(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._step()
            except Exception:
                logger.exception("plugin %s: this should not have happened", self.name)
                self._opener.back_off()
            await self._pause()

    async def _pause(self) -> None:
        now = self._hosting.now()
        moments = [self._opener.retry_at, self._state.keeper.due_at or 0.0]
        wait_seconds = min([LOOK_SECONDS, *(moment - now for moment in moments if moment > now)])
        loop = asyncio.get_running_loop()
        waits = {
            loop.create_task(self._wake.wait()),
            asyncio.ensure_future(self._hosting.sleep(wait_seconds)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _step(self) -> None:
        """Do the next things that bring the plugin closer to its spec."""
        state = self._state
        if not self._loaded:
            await self._load()
        if state.lineup.drop_lost():
            self._on_change()
        await self._opener.open_what_is_missing()
        self._succession.settle()
        why = state.reason_to_train()
        if why is not None and state.edition is not None:
            logger.info("plugin %s: a model is trained: %s", self.name, why)
            in_place = state.lineup.instance if state.spec.source.service is not None else None
            state.trainer.start(state.spec, state.edition, self._asker.last_ask, in_place=in_place)
            self._on_change()
        problem = state.keeper.problem
        await state.keeper.save(self._saved)
        if state.keeper.problem != problem:
            self._on_change()

    async def _load(self) -> None:
        state = self._state
        saved = await state.keeper.load()
        state.lineup.shelf.restore(
            saved,
            self._hosting.baseline,
            tolerance=state.spec.training.tolerance_factor,
            told=lambda text: logger.warning("plugin %s: %s", self.name, text),
        )
        state.trainer.points_since += saved.points_since
        self._loaded = True

    def _saved(self) -> SavedModels:
        return self._state.lineup.shelf.saved(self._state.lineup.roles, self._state.trainer.points_since)

    async def _close(self, forget: bool) -> None:
        state = self._state
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
        await self._asker.close()
        await state.trainer.close()
        saved = self._saved()
        await state.lineup.close()
        if forget:
            await state.keeper.forget()
        elif self._loaded:
            try:
                async with asyncio.timeout(SAVE_AT_LAST_SECONDS):
                    await state.keeper.save(lambda: saved, at_last=True)
            except TimeoutError:
                logger.warning("plugin %s: its models could not be kept in time", self.name)
