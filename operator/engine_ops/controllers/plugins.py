"""What the controllers need of plugins, wherever they run."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final, Protocol

from engine_ops.api.reasons import Reason
from engine_ops.plugins.messages import Ask


class Said(Protocol):
    """What a plugin said to a request."""

    @property
    def plugin(self) -> str:
        """Its name."""

    @property
    def version(self) -> str:
        """Its version."""

    @property
    def envelope(self) -> bytes | None:
        """JSON of what it returned; None or empty where there is nothing to be served."""

    @property
    def no(self) -> str | None:
        """Why there is nothing to be served, if so."""

    @property
    def fault(self) -> bool:
        """Whether that is the plugin's fault, or its host's."""

    @property
    def declined(self) -> bool:
        """Whether the no is the plugin's own, in good order."""

    @property
    def waiting(self) -> Reason | None:
        """Where the no passes by itself, what is waited for."""

    @property
    def shadow(self) -> bool:
        """Whether it is not to be served whatever it is."""

    @property
    def model_id(self) -> str | None:
        """Of its model."""

    @property
    def confidence(self) -> float | None:
        """As measured."""

    @property
    def claimed_confidence(self) -> float | None:
        """As the plugin has it."""


class Plugin(Protocol):
    """A plugin that can be asked."""

    @property
    def name(self) -> str:
        """Its name."""

    async def ask(self, ask: Ask, *, point: bytes | None, workload: str | None, needs_prediction: bool) -> Said:
        """Ask it. Nothing is raised; cancelling does no harm.

        Parameters
        ----------
        ask
            The request.
        point
            Key of the history point that will tell how it went; None for what is neither to be scored nor counted.
        workload
            Key of the workload that the answer is for.
        needs_prediction
            Whether there is no built-in answer to it.
        """

    def shadow(self, ask: Ask, *, point: bytes | None, workload: str | None) -> None:
        """Ask it in the background, only to score what it says: another has answered."""

    def judged(self, *, served: bool, no: str, unusable: bool) -> None:
        """Take note of what became of a reply: served or not, and why; ``unusable`` if it was at fault."""

    def left_out(self) -> None:
        """Take note of a request that it was not asked, though its turn had come."""

    def passed_over(self) -> None:
        """Take note that another has answered a request that it was asked, or left out of."""


class Plugins(Protocol):
    """The plugins that there are."""

    def awaited(self, request_type: str, states: Container[Reason]) -> Sequence[str]:
        """Name the plugins that may be able to answer a request of a type later, and say what they are in.

        Parameters
        ----------
        request_type
            Of the request.
        states
            Reasons of the condition Ready; plugins in another are left out.
        """

    def select(self, request_type: str, pinned: str | None) -> Sequence[Plugin]:
        """Return those that a request of a type goes to, the first of them first; only the pinned one if there is."""

    def fallback(self) -> Plugin | None:
        """Return what predicts from the history alone; None where no history is kept."""


class NoPlugins:
    """There are none."""

    def awaited(self, request_type: str, states: Container[Reason]) -> Sequence[str]:
        """Return nothing."""
        del request_type, states
        return ()

    def select(self, request_type: str, pinned: str | None) -> Sequence[Plugin]:
        """Return nothing."""
        del request_type, pinned
        return ()

    def fallback(self) -> Plugin | None:
        """Return None."""
        return None


NO_PLUGINS: Final[Plugins] = NoPlugins()
