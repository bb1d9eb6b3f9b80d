"""Trains the models of one plugin, aside from requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from engine_ops.api.optimizerplugin import OptimizerPluginSpec, PluginTraining
from engine_ops.plugins.hosting import Edition, Hosting
from engine_ops.plugins.instance import Instance, PluginBrokenError, PluginUnavailableError
from engine_ops.plugins.messages import Ask, Trained
from engine_ops.plugins.model_shelf import Roles
from engine_ops.plugins.model_store import ModelRecord
from engine_ops.plugins.skill import SkillTracker
from engine_ops.plugins.snapshot import TrainingRuns
from engine_ops.plugins.trained_model import TrainedModel
from engine_ops.plugins.training import RETRY_SECONDS, UNAVAILABLE_SECONDS, Candidate, Standing, reason_to_train

logger = logging.getLogger(__name__)


class Trainer:
    """Trains when the policy says so: one model at a time over all plugins, each in a fresh instance.

    Parameters
    ----------
    name
        The plugin's.
    hosting
        What it shares with the others.
    has_trained
        Is given each new model, in the instance that it was trained in, and the edition of that.
    discard
        Ends an instance in the background.
    on_change
        Called when `is_busy` or `failure` have changed, and by the instances.
    """

    def __init__(
        self,
        name: str,
        hosting: Hosting,
        *,
        has_trained: Callable[[TrainedModel, Edition], None],
        discard: Callable[[Instance], None],
        on_change: Callable[[], None],
    ) -> None:
        self._name = name
        self._hosting = hosting
        self._has_trained = has_trained
        self._discard = discard
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._trained_at = 0.0
        self._took_seconds = 0.0
        self._failed_at: float | None = None
        self.failure: str | None = None
        self.points_since = 0
        self.points_since_failure = 0
        self.runs = TrainingRuns()
        self._retry_seconds = RETRY_SECONDS

    @property
    def is_busy(self) -> bool:
        """Whether a training is under way, or waits for its turn."""
        return self._task is not None

    def why(self, training: PluginTraining, roles: Roles) -> str | None:
        """Return why a model is to be trained now; None where none is."""
        now = self._hosting.now()
        newest = roles.candidate or roles.active
        candidate = None
        if roles.candidate is not None:
            tracker = roles.candidate.tracker
            age_seconds = now - roles.candidate.record.trained_at_ms / 1000
            asked = max(roles.candidate.replies, tracker.total + tracker.pending)
            candidate = Candidate(tracker.count_since_mark, asked, age_seconds)
        standing = Standing(
            points=self._hosting.points(),
            points_since=self.points_since,
            samples=newest.record.samples if newest is not None else None,
            age_seconds=now - max(self._trained_at, newest.record.trained_at_ms / 1000 if newest is not None else 0.0),
            took_seconds=self._took_seconds,
            is_served=roles.active is not None,
            has_drifted=roles.active is not None and roles.active.tracker.has_drifted,
            candidate=candidate,
            failed_seconds=now - self._failed_at if self._failed_at is not None else None,
            retry_seconds=self._retry_seconds,
            points_since_failure=self.points_since_failure,
        )
        return reason_to_train(training, standing)

    def start(
        self, spec: OptimizerPluginSpec, edition: Edition, replay: Ask | None, *, in_place: Instance | None = None
    ) -> None:
        """Begin a training, or take a place in the row for one.

        Parameters
        ----------
        spec, edition
            Of the plugin.
        replay
            A request, for a plugin that does not show whether it is trained.
        in_place
            Train this instance, rather than a fresh one: a service.
        """
        task = asyncio.get_running_loop().create_task(self._train(spec, edition, replay, in_place))
        self._task = task
        self._ending.add(task)
        task.add_done_callback(self._has_ended)

    def cancel(self) -> None:
        """End the training that is under way, and forget that one has failed."""
        self.failure = None
        self._failed_at = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def close(self) -> None:
        """End every training."""
        self.cancel()
        if self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if self._task is task:
            self._task = None
            self._on_change()

    async def _train(
        self, spec: OptimizerPluginSpec, edition: Edition, replay: Ask | None, in_place: Instance | None
    ) -> None:
        async with self._hosting.training:
            counted, self.points_since = self.points_since, 0
            began = self._hosting.now()
            instance = in_place
            model = None
            try:
                if instance is None:
                    instance = self._hosting.make_instance(self._name, spec, b"", self._on_change)
                    await instance.start()
                trained = await instance.train(spec.training.timeout_seconds, replay)
                if trained.is_trained is False:
                    raise PluginBrokenError("train", "its model says that it is not trained, after train_model")
                model = self._model_of(trained, spec, edition, instance)
            except PluginBrokenError as error:
                self._note_failure(error.message, counted)
            except PluginUnavailableError as error:
                # Nothing is known of the plugin: the host or the service was lost in the middle.
                self._note_failure(error.message, counted, retry_seconds=UNAVAILABLE_SECONDS)
            except asyncio.CancelledError:
                self.points_since += counted  # nobody has learned of them
                raise
            except Exception as error:
                logger.exception("plugin %s: the training failed", self._name)
                self._note_failure(f"{type(error).__name__}: {error}", counted)
            finally:
                if model is None and instance is not None and in_place is None:
                    self._discard(instance)
            took_seconds = max(0.0, self._hosting.now() - began)
        self.runs = self.runs.and_one(took_seconds, failed=model is None)
        if model is not None:
            # Not busy any more for whoever looks from within.
            self._task = None
            self._trained_at = self._hosting.now()
            self._took_seconds = took_seconds
            self.failure, self._failed_at = None, None
            self._has_trained(model, edition)

    def _model_of(
        self, trained: Trained, spec: OptimizerPluginSpec, edition: Edition, instance: Instance
    ) -> TrainedModel:
        record = ModelRecord(
            digest=trained.digest,
            model_id=trained.model_id,
            samples=trained.samples,
            trained_at_ms=round(self._hosting.now() * 1000),
            made_with=edition.made_with,
        )
        tracker = SkillTracker(self._hosting.baseline, tolerance=spec.training.tolerance_factor)
        return TrainedModel(record, tracker, state=trained.state, instance=instance)

    def _note_failure(self, message: str, counted: int, *, retry_seconds: float = RETRY_SECONDS) -> None:
        logger.warning("plugin %s: its training failed: %s", self._name, message)
        self.failure = message
        self._failed_at = self._hosting.now()
        self._retry_seconds = retry_seconds
        self.points_since += counted
        self.points_since_failure = 0
