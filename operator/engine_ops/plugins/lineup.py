"""The processes of one plugin, and the models in them."""

from __future__ import annotations

import asyncio
import logging

from engine_ops.plugins.instance import Instance
from engine_ops.plugins.model_shelf import ModelShelf, Roles
from engine_ops.plugins.trained_model import TrainedModel

logger = logging.getLogger(__name__)


class Lineup:
    """Who is asked: a model that is served, one in shadow, or, without any, the plugin as it is.

    Processes that are not needed any more finish what they are at, in the background.

    Parameters
    ----------
    name
        The plugin's; in logs.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._leaving: set[asyncio.Task[None]] = set()
        self.shelf = ModelShelf()
        self.roles = Roles()
        self.base: Instance | None = None

    @property
    def instance(self) -> Instance | None:
        """The one that stands for the plugin: that of the model that is served, else any; None before the first."""
        for model in self.roles:
            if model is not None and model.instance is not None:
                return model.instance
        return self.base

    def instances(self) -> list[Instance]:
        """Return every instance that is here, each once."""
        found = [self.base, *(model.instance for model in self.shelf)]
        return list({id(one): one for one in found if one is not None}.values())

    def missing(self, wanted: Roles) -> TrainedModel | None:
        """Return the model that has a role and no process; the one to be served first."""
        return next((model for model in wanted if model is not None and model.instance is None), None)

    def settle(self, wanted: Roles) -> bool:
        """Give out the roles, once the model that is to be served can be asked; until then all stays as it is.

        Returns
        -------
        bool
            Whether anything has changed.
        """
        if wanted.active is not None and wanted.active.instance is None and self.instance is not None:
            return False
        before = (self.roles, self.instance)
        self.roles = wanted
        self._let_others_go()
        return before != (self.roles, self.instance)

    def drop_lost(self) -> bool:
        """Forget models of which nothing is left; return whether there were any. Their processes may live on."""
        lost = self.shelf.drop_lost()
        for model in lost:
            if model.instance is not None and self.base is None:
                self.base = model.instance
            elif model.instance is not None and model.instance is not self.base:
                self.discard(model.instance)
            model.instance = None
        if lost:
            self.roles = Roles(*(model if model is not None and model not in lost else None for model in self.roles))
        return bool(lost)

    def take_over(self, instance: Instance | None, model: TrainedModel | None) -> None:
        """Put an instance of a new edition in the place of all that are here.

        Parameters
        ----------
        instance
            None leaves the plugin without any.
        model
            The model in it; None for the plugin as it is.
        """
        old = self.instances()
        self.base = None
        for each in self.shelf:
            each.instance = None
        if model is not None:
            model.instance = instance
        else:
            self.base = instance
        self.shelf.drop_lost()
        self.roles = Roles()
        for each_instance in old:
            self.discard(each_instance)

    def discard(self, instance: Instance) -> None:
        """Have an instance finish, and end it."""

        async def leave() -> None:
            try:
                await instance.close()
            except Exception:
                logger.exception("plugin %s: an instance could not be closed", self._name)

        task = asyncio.get_running_loop().create_task(leave())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """End every instance, those that are leaving too."""
        self.take_over(None, None)
        while self._leaving:
            await asyncio.gather(*self._leaving)

    def _let_others_go(self) -> None:
        needed = [model.instance for model in self.roles if model is not None and model.instance is not None]
        for model in self.shelf:
            if not any(model is each for each in self.roles):
                model.tracker.forget_pending()
            if model.instance is not None and not any(model is each for each in self.roles):
                instance, model.instance = model.instance, None
                if instance is not self.base and not any(instance is each for each in needed):
                    self.discard(instance)
        self.shelf.drop_lost()
        if needed and self.base is not None:
            base, self.base = self.base, None
            if not any(base is each for each in needed):
                self.discard(base)
