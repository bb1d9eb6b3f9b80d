"""What the reconciler tells of, and to whom: a history, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from engine_ops.api.status import Attempt, Status
from engine_ops.controllers.view import RequestView
from engine_ops.history.facts import Asked
from engine_ops.kube.target import Target


class History(Protocol):
    """What the reconciler needs of a history."""

    def note(self, view: RequestView, *, gone: bool = False) -> None:
        """Take note of a request as the watch shows it, or showed it last before it was gone."""

    def sign(self, target: Target, attempt: Attempt, status: Status, asked: Asked) -> None:
        """Put into a final status what the history needs. `landed` or `missed` must follow."""

    def landed(self, target: Target) -> None:
        """Take note that the status that was signed last has been written."""

    def missed(self, target: Target) -> None:
        """Take note that it was not written, and will not be."""

    def has_room(self, target: Target, status: Mapping[str, Any]) -> bool:
        """Whether another solve can be signed without losing one that is not in the history yet."""

    async def settle(self, target: Target, status: Mapping[str, Any]) -> bool:
        """Bring every solve that a status tells of into the history; return whether all of them are there."""


class NoHistory:
    """Keeps nothing."""

    def note(self, view: RequestView, *, gone: bool = False) -> None:
        """Do nothing."""

    def sign(self, target: Target, attempt: Attempt, status: Status, asked: Asked) -> None:
        """Do nothing."""

    def landed(self, target: Target) -> None:
        """Do nothing."""

    def missed(self, target: Target) -> None:
        """Do nothing."""

    def has_room(self, target: Target, status: Mapping[str, Any]) -> bool:
        """Return True."""
        del target, status
        return True

    async def settle(self, target: Target, status: Mapping[str, Any]) -> bool:
        """Return True."""
        del target, status
        return True
