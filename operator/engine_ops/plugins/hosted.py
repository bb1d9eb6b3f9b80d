"""The life of one plugin: started, asked, trained, promoted, replaced, ended."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Mapping

from engine_ops.api.optimizerplugin import OptimizerPluginSpec, PluginMode
from engine_ops.api.reasons import Reason
from engine_ops.plugins.hosted_snapshot import Problem, View, snapshot_of
from engine_ops.plugins.hosting import Backoff, Edition, Hosting
from engine_ops.plugins.instance import Instance, PluginBrokenError, PluginUnavailableError, Unanswered
from engine_ops.plugins.lineup import Lineup
from engine_ops.plugins.messages import Ask, Opened, Replied
from engine_ops.plugins.model_keeper import ModelKeeper
from engine_ops.plugins.model_shelf import Roles
from engine_ops.plugins.model_store import SavedModels
from engine_ops.plugins.said import Said
from engine_ops.plugins.snapshot import Counts, PluginSnapshot
from engine_ops.plugins.trained_model import TrainedModel
from engine_ops.plugins.trainer import Trainer
from engine_ops.plugins.training import is_ever_gated, is_gated
from engine_ops.plugins.trials import Trials

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""At least so often a plugin is looked at: the history may have grown, a training be due."""

MAX_ASIDE = 4
"""Requests in shadow at a time; more are left out."""

SAVE_AT_LAST_SECONDS = 5.0

MEASURED_OUTCOMES = 50
"""After so many outcomes, drift of a model that was served without any is measured against these."""


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
        The first one.
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
        self._spec = spec
        self._hosting = hosting
        self._on_change = on_change
        self._lineup = Lineup(name)
        self._keeper = ModelKeeper(name, hosting)
        self._trainer = Trainer(
            name,
            hosting,
            has_trained=self._has_trained,
            discard=self._lineup.discard,
            on_change=self._instance_changed,
        )
        self._trials = Trials()
        self._edition: Edition | None = None
        self._rejected: Edition | None = None
        self._problem: Problem | None = None
        self._opening: asyncio.Task[Opened] | None = None
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._loaded = False
        self._counts = Counts()
        self._last_ask: Ask | None = None
        self._aside: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._start_if_wanted()

    @property
    def spec(self) -> OptimizerPluginSpec:
        """What was applied last."""
        return self._spec

    @property
    def opened(self) -> Opened | None:
        """What the plugin says of itself; None while it cannot be asked."""
        instance = self._lineup.instance
        return instance.opened if instance is not None else None

    def can_handle(self, request_type: str) -> bool:
        """Return whether requests of a type may go to the plugin: it runs, and takes them."""
        opened = self.opened
        return opened is not None and self._closing is None and request_type in opened.types

    def ability(self) -> tuple[object, ...]:
        """Return what decides whom requests go to, and who answers; those that wait are tried again when it changes."""
        opened = self.opened
        base = self._lineup.base
        return (
            self._closing is None and self._spec.enabled,
            self._spec.priority,
            self._spec.supported_types,
            self._spec.mode,
            self._spec.training.gate,
            opened.types if opened is not None else None,
            tuple(model.digest if model is not None else "" for model in self._lineup.roles),
            base is not None and self._trainer.is_busy,
        )

    async def apply(self, spec: OptimizerPluginSpec) -> None:
        """Take a new spec. Returns at once.

        Parameters
        ----------
        spec
            In place of the one before. New code, settings or limits are made ready before they take over; all else
            takes effect at once, and restarts nothing.
        """
        if self._closing is not None or spec == self._spec:
            return
        before, self._spec = self._spec, spec
        if Edition.of(spec) != Edition.of(before):
            self._retry_at = 0.0
            self._backoff.reset()
            self._problem = None
            if self._opening is not None:
                self._opening.cancel()
            self._trainer.cancel()
        if spec.training.pinned_model is not None:
            self._trainer.cancel()
        for model in self._lineup.shelf:
            model.tracker.tolerance = spec.training.tolerance_factor
        self._settle()
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
            The key under which its outcome will be told; None where it is not to be scored.
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
        self._count(requests=1)
        if ask.type:
            self._last_ask = ask
        if self._spec.mode is PluginMode.SHADOW:
            self.shadow(ask, point=point, workload=workload)
            return Said(self.name, self._version, no="it is in shadow, by spec.mode", shadow=True)
        said: Said | None = None
        for _ in range(3):
            choice = self._choose(ask, needs_prediction)
            if isinstance(choice, Said):
                self.shadow(ask, point=point, workload=workload)
                return choice
            instance, model = choice
            self._shadow_others(model, ask, point, workload)
            answer = await instance.ask(ask, timeout_seconds=timeout_seconds)
            said = self._read(answer, model, ask, point, workload)
            # It was replaced before the request's turn came; whoever replaced it is there already.
            if not (isinstance(answer, Unanswered) and answer.kind == "closing") or self._closing is not None:
                break
        assert said is not None  # noqa: S101 - the loop has run
        self._count(answers=said.envelope is not None, failures=said.fault)
        return said

    def shadow(self, ask: Ask, *, point: bytes | None, workload: str | None) -> None:
        """Ask the models in the background, only to score what they say."""
        if self._spec.enabled:
            self._shadow_others(None, ask, point, workload)

    def judged(self, served: bool, no: str, unusable: bool) -> None:
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
        if unusable:
            self._count(failures=1, answers=-1)
            instance = self._lineup.instance
            if instance is not None:
                instance.blame(no)
        if not served:
            self._count(fallbacks=1)

    def outcome(self, point: str | None, values: Mapping[str, float]) -> None:
        """Take note of an outcome. Told of every point once.

        Parameters
        ----------
        point
            Its key as hexadecimal digits; None where it has none.
        values
            `engine_ops.ml.scoring.actual_values` of it.
        """
        self._trainer.points_since += 1
        self._trainer.points_since_failure += 1
        scored = False
        for model in self._lineup.roles:
            if model is not None and point is not None and model.tracker.known(point, values) is not None:
                scored = True
                if (
                    not model.tracker.knows_its_loss
                    and model.tracker.total >= MEASURED_OUTCOMES
                    and self._is_served(model)
                ):
                    model.tracker.promoted()
        if scored:
            self._keeper.changed(soon=False)
            self._judge()
        if self._why_train() is not None:
            self._wake.set()

    def snapshot(self) -> PluginSnapshot:
        """Return how the plugin stands."""
        return snapshot_of(
            View(
                self.name,
                self._spec,
                self._lineup,
                self._trainer,
                problem=self._problem,
                is_current=self._edition == Edition.of(self._spec),
                points=self._hosting.points() if self._hosting.history is not None else None,
                standing=self._trials.standing,
                counts=self._counts,
                storing=self._keeper.problem,
            )
        )

    async def close(self, *, forget: bool = False) -> None:
        """Ask no more, let requests in flight end, save, and end every process. Idempotent.

        Parameters
        ----------
        forget
            Whether to remove the models from the store instead.
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(forget))
        await asyncio.shield(self._closing)

    # Asking

    @property
    def _version(self) -> str:
        opened = self.opened
        return opened.version if opened is not None else ""

    def _is_served(self, model: TrainedModel) -> bool:
        return model is self._lineup.roles.active

    def _choose(self, ask: Ask, needs_prediction: bool) -> tuple[Instance, TrainedModel | None] | Said:
        """Return whom to ask, or why nobody is."""
        if self._lineup.drop_lost():
            self._settle()
            self._wake.set()
        active, candidate = self._lineup.roles
        for model in (active, candidate):
            if model is not None and model.instance is not None:
                gated = is_gated(self._spec, ask.type, needs_prediction=needs_prediction)
                if model is candidate and gated:
                    return self._no(f"its model is in shadow: {self._trials.standing(model)}", shadow=True)
                return model.instance, model
        return self._choose_untrained()

    def _choose_untrained(self) -> tuple[Instance, None] | Said:
        base = self._lineup.base
        opened = base.opened if base is not None else None
        if base is None or opened is None:
            if self._problem is not None:
                unavailable = self._problem.reason is Reason.PLUGIN_UNAVAILABLE
                return self._no(self._problem.message, waiting=self._problem.reason if unavailable else None)
            return self._no("it is being started", waiting=Reason.STARTING)
        if opened.has_model and opened.is_trained is not True and self._has_enough():
            # It would train itself in the request, and be killed for it.
            if self._trainer.failure is not None and not self._trainer.is_busy:
                return self._no(f"its training failed: {self._trainer.failure}")
            return self._no("it is being trained", waiting=Reason.TRAINING)
        return base, None

    def _has_enough(self) -> bool:
        return self._hosting.history is not None and self._hosting.points() >= self._spec.training.min_samples

    def _no(self, reason: str, *, waiting: Reason | None = None, shadow: bool = False) -> Said:
        return Said(self.name, self._version, no=reason, waiting=waiting, shadow=shadow)

    def _read(
        self,
        answer: Replied | Unanswered,
        model: TrainedModel | None,
        ask: Ask,
        point: bytes | None,
        workload: str | None,
    ) -> Said:
        if isinstance(answer, Unanswered):
            waiting = {"unavailable": Reason.PLUGIN_UNAVAILABLE, "closing": Reason.STARTING}.get(answer.kind)
            said = self._no(answer.reason, waiting=waiting)
            return dataclasses.replace(said, fault=answer.kind in ("timeout", "crashed", "broken"))
        if model is not None and model.is_lost:
            # Its process was started anew in the meantime, without what it had learned.
            self._wake.set()
            return self._no("its model was lost with its process, and is trained again", waiting=Reason.TRAINING)
        if answer.failed or answer.no is not None or not answer.envelope:
            untrained = model is None and answer.is_trained is not True and self._hosting.history is not None
            said = self._no(answer.no or "it returned nothing", waiting=None)
            if untrained and not answer.failed and self.opened is not None and self.opened.has_model:
                said = dataclasses.replace(said, waiting=Reason.NOT_ENOUGH_DATA)
            return dataclasses.replace(said, fault=answer.failed)
        self._heard(answer, model, ask, point, workload)
        return Said(
            self.name,
            self._version,
            envelope=answer.envelope,
            model_id=answer.model_id,
            scored=answer.scored,
            confidence=model.confidence if model is not None else None,
            claimed_confidence=answer.claimed_confidence,
        )

    def _heard(
        self, reply: Replied, model: TrainedModel | None, ask: Ask, point: bytes | None, workload: str | None
    ) -> None:
        if model is None:
            return
        model.heard(ask, reply, None if point is None else point.hex(), workload)
        self._keeper.changed(soon=False)
        if model is self._lineup.roles.candidate and model.is_unscored:
            self._judge()

    def _shadow_others(self, asked: TrainedModel | None, ask: Ask, point: bytes | None, workload: str | None) -> None:
        for model in self._lineup.roles:
            if model is None or model is asked or model.instance is None or len(self._aside) >= MAX_ASIDE:
                continue
            task = asyncio.get_running_loop().create_task(self._ask_aside(model.instance, model, ask, point, workload))
            self._aside.add(task)
            task.add_done_callback(self._aside.discard)

    async def _ask_aside(
        self, instance: Instance, model: TrainedModel, ask: Ask, point: bytes | None, workload: str | None
    ) -> None:
        answer = await instance.ask(ask)
        if isinstance(answer, Replied) and answer.envelope and answer.no is None and not model.is_lost:
            self._heard(answer, model, ask, point, workload)

    def _count(self, *, requests: int = 0, answers: int = 0, failures: int = 0, fallbacks: int = 0) -> None:
        before = self._counts
        self._counts = Counts(
            before.requests + requests,
            before.answers + answers,
            before.failures + failures,
            before.fallbacks + fallbacks,
        )

    # Models

    def _wanted(self, edition: Edition) -> Roles:
        opened = self.opened
        types = opened.types if opened is not None else ()
        gated = is_ever_gated(self._spec, types) if opened is not None else True
        return self._lineup.shelf.roles(edition.made_with, pinned=self._spec.training.pinned_model, gated=gated)

    def _settle(self) -> None:
        if self._edition is None or self._closing is not None:
            return
        before = self._lineup.roles
        if self._lineup.settle(self._wanted(self._edition)):
            logger.info("plugin %s: %s", self.name, _told(self._lineup.roles))
        if before != self._lineup.roles:
            self._keeper.changed(soon=True)
            self._on_change()

    def _judge(self) -> None:
        """Promote, or demote, if the outcomes say so."""
        active, candidate = self._lineup.roles
        shelf = self._lineup.shelf
        opened = self.opened
        if (
            self._spec.training.pinned_model is not None
            or opened is None
            or not is_ever_gated(self._spec, opened.types)
        ):
            return
        if candidate is not None and (passed := self._trials.verdict(candidate, active)):
            logger.info("plugin %s: model %s is promoted: %s", self.name, candidate.digest, self._trials.message)
            shelf.promote(candidate, passed)
        elif active is not None and self._trials.is_refuted(active):
            logger.warning("plugin %s: model %s is demoted: %s", self.name, active.digest, self._trials.message)
            shelf.demote(active)
        else:
            return
        self._settle()
        self._wake.set()

    def _why_train(self) -> str | None:
        opened = self.opened
        if not self._spec.enabled or opened is None or not opened.has_model or self._hosting.history is None:
            return None
        if self._edition is None or self._edition != Edition.of(self._spec) or self._trainer.is_busy:
            return None
        return self._trainer.why(self._spec.training, self._lineup.roles)

    def _has_trained(self, model: TrainedModel, edition: Edition) -> None:
        """Take a new model, in the process that it was trained in."""
        instance = model.instance
        assert instance is not None  # noqa: S101 - see Trainer
        same = next((each for each in self._lineup.shelf if each.digest == model.digest), None)
        if edition != self._edition or (
            same is not None and same.instance is not None and same.instance is not instance
        ):
            # Settings have changed since; or nothing that the model learns from has.
            self._lineup.discard(instance)
            self._on_change()
            return
        for each in self._lineup.shelf:
            # A service has one model at a time; the new one has the place of the old one.
            if each.instance is instance:
                model.passed = "proven" if each.passed == "proven" else "unscored" if each.passed else ""
                each.instance = None
        self._lineup.shelf.add(model)
        self._lineup.drop_lost()
        self._keeper.changed(soon=True)
        self._settle()
        self._wake.set()
        self._on_change()

    # Life

    def _start_if_wanted(self) -> None:
        if self._spec.enabled and self._life is None and self._closing is None:
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
                self._retry_at = self._hosting.now() + self._backoff.failed()
            await self._pause()

    async def _pause(self) -> None:
        now = self._hosting.now()
        moments = [
            moment - now for moment in (self._retry_at, self._keeper.due_at) if moment is not None and moment > now
        ]
        loop = asyncio.get_running_loop()
        waits = {
            loop.create_task(self._wake.wait()),
            asyncio.ensure_future(self._hosting.sleep(min([LOOK_SECONDS, *moments]))),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _step(self) -> None:
        """Do the next thing that brings the plugin closer to its spec."""
        if not self._loaded:
            saved = await self._keeper.load()
            tolerance = self._spec.training.tolerance_factor
            self._lineup.shelf.restore(
                saved,
                self._hosting.baseline,
                tolerance=tolerance,
                told=lambda text: logger.warning("plugin %s: %s", self.name, text),
            )
            self._trainer.points_since += saved.points_since
            self._loaded = True
        if self._lineup.drop_lost():
            self._on_change()
        if self._retry_at <= self._hosting.now():
            await self._open_what_is_missing()
        self._settle()
        why = self._why_train()
        if why is not None and self._edition is not None:
            logger.info("plugin %s: a model is trained: %s", self.name, why)
            in_place = self._lineup.instance if self._spec.source.service is not None else None
            self._trainer.start(self._spec, self._edition, self._last_ask, in_place=in_place)
            self._on_change()
        await self._keeper.save(self._saved)

    def _saved(self) -> SavedModels:
        return self._lineup.shelf.saved(self._lineup.roles, self._trainer.points_since)

    async def _open_what_is_missing(self) -> None:
        edition = Edition.of(self._spec)
        if edition == self._rejected:
            return
        wanted = self._wanted(edition)
        model = self._lineup.missing(wanted)
        if edition == self._edition and model is None and self._lineup.instance is not None:
            return
        if edition != self._edition:
            model = wanted.active or wanted.candidate
        instance = self._hosting.make_instance(
            self.name, self._spec, model.state if model is not None else b"", self._instance_changed
        )
        try:
            opened = await self._open(instance)
        except PluginBrokenError as error:
            self._could_not_open(error, edition, model)
        except PluginUnavailableError as error:
            self._problem = Problem(Reason.PLUGIN_UNAVAILABLE, error.message)
            self._wait_after(error.message)
        else:
            if opened is None or edition != Edition.of(self._spec):
                self._lineup.discard(instance)
                self._wake.set()
                return
            self._has_opened(instance, edition, model)
            return
        self._lineup.discard(instance)
        self._on_change()

    async def _open(self, instance: Instance) -> Opened | None:
        """Start an instance; None where another spec came in between."""
        self._opening = asyncio.get_running_loop().create_task(instance.start())
        try:
            await asyncio.wait({self._opening})
            return None if self._opening.cancelled() else self._opening.result()
        finally:
            if not self._opening.done():
                self._opening.cancel()
                with contextlib.suppress(BaseException):
                    await self._opening
                self._lineup.discard(instance)
            self._opening = None

    def _has_opened(self, instance: Instance, edition: Edition, model: TrainedModel | None) -> None:
        self._backoff.reset()
        self._problem = None
        self._rejected = None
        if edition != self._edition:
            self._lineup.take_over(instance, model)
            self._edition = edition
        elif model is not None and model in tuple(self._lineup.shelf) and model.instance is None:
            model.instance = instance
        elif model is None and self._lineup.instance is None:
            self._lineup.base = instance
        else:
            self._lineup.discard(instance)
        self._settle()
        self._wake.set()
        self._on_change()

    def _could_not_open(self, error: PluginBrokenError, edition: Edition, model: TrainedModel | None) -> None:
        if error.stage == "load" and model is not None:
            logger.warning("plugin %s: model %s cannot be loaded: %s", self.name, model.digest, error.message)
            self._lineup.shelf.remove(model)
            self._keeper.changed(soon=True)
            self._wake.set()
            return
        if edition != Edition.of(self._spec):
            self._wake.set()
            return
        invalid = error.stage == "config"
        self._problem = Problem(Reason.INVALID_CONFIG if invalid else Reason.LOAD_FAILED, error.message, error.faults)
        if edition != self._edition:
            # What is served is what the spec says, or nothing.
            self._trainer.cancel()
            self._lineup.take_over(None, None)
            self._edition = None
        if invalid:
            self._rejected = edition
        else:
            self._wait_after(error.message)

    def _wait_after(self, message: str) -> None:
        wait_seconds = self._backoff.failed()
        self._retry_at = self._hosting.now() + wait_seconds
        logger.warning("plugin %s: %s; tried again in %g s", self.name, message, wait_seconds)

    async def _close(self, forget: bool) -> None:
        tasks = [task for task in (self._life, *self._aside) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._trainer.close()
        saved = self._saved()
        await self._lineup.close()
        if forget:
            await self._keeper.forget()
        elif self._loaded:
            try:
                async with asyncio.timeout(SAVE_AT_LAST_SECONDS):
                    await self._keeper.save(lambda: saved, at_last=True)
            except TimeoutError:
                logger.warning("plugin %s: its models could not be kept in time", self.name)


def _told(roles: Roles) -> str:
    active = "no model is served" if roles.active is None else f"model {roles.active.digest} is served"
    return active if roles.candidate is None else f"{active}, {roles.candidate.digest} is in shadow"
