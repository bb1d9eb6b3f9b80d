"""The last status of a solve: written together with what the history is made of."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from engine_ops.api.faults import WaitingError
from engine_ops.api.reasons import Reason
from engine_ops.api.status import Attempt, Status
from engine_ops.controllers.recording import History
from engine_ops.controllers.view import RequestView
from engine_ops.history.facts import Asked
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.kube.requests import Requests
from engine_ops.kube.status_writer import StatusWriter, Written
from engine_ops.kube.target import Target


class FinalStatus:
    """Writes final statuses, and tells the history what became of each write.

    Parameters
    ----------
    writer, requests
        The API server.
    history
        Of finished solves.
    """

    def __init__(self, writer: StatusWriter, requests: Requests, history: History) -> None:
        self._writer = writer
        self._requests = requests
        self._history = history

    async def make_room(self, target: Target, previous: Mapping[str, Any]) -> None:
        """Let no answer overwrite one that the history has neither written nor room for in the status.

        Raises
        ------
        WaitingError
            If the history cannot be written now.
        """
        if self._history.has_room(target, previous):
            return
        if not await self._history.settle(target, previous):
            message = "the answers before this one cannot be written to the history; see ConfigMap engine-ops-status"
            raise WaitingError(Reason.HISTORY_UNAVAILABLE, message)

    async def write(self, target: Target, attempt: Attempt, status: Status, asked: Asked | None) -> Written:
        """Write the final status of a generation and run; ``asked`` is None for one that is no answer.

        Raises
        ------
        ApiError
            As `StatusWriter.write` does.
        """
        if asked is None:
            return await self._writer.write(target, status)
        self._history.sign(target, attempt, status, asked)
        written = await self._writer.write(target, status)
        match written:
            case Written.DONE:
                self._history.landed(target)
            case Written.REFUSED:
                self._history.missed(target)
            case Written.DROPPED:
                await self._look_whether_it_landed(target)
        return written

    async def _look_whether_it_landed(self, target: Target) -> None:
        """Tell the history of a write that was dropped: an attempt whose response was lost may have landed before.

        What cannot be read now is told by the watch.
        """
        with contextlib.suppress(ApiError, UnavailableError):
            body = await self._requests.get(target)
            if body is None:
                self._history.missed(target)
            else:
                self._history.note(RequestView.of(body))
