"""Status writes that can never land on the wrong object.

A merge patch and server-side apply both ignore a stale uid: an old answer would land on a new object of the same
name. A JSON patch can test first, and the API server applies all of it or nothing.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random
from collections.abc import Mapping
from typing import Any

import msgspec

from engine_ops.kube.connection import JSON_PATCH, METADATA_ONLY, Connection
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.kube.target import Target

logger = logging.getLogger(__name__)

MAX_BACKOFF_SECONDS = 30.0
MAX_REFUSALS = 8
"""After so many refusals in a row, about half a minute, the caller is told: what refuses this write (a webhook, a role)
may let all others pass."""


class Written(enum.Enum):
    """What became of a status write."""

    DONE = "done"
    DROPPED = "dropped"
    """The object is gone, was made again, or its spec has changed: the answer is not for it."""
    REFUSED = "refused"
    """The API server finds the status itself invalid: a defect of ours, logged."""


class StatusWriter:
    """Writes whole statuses of our own objects, a bounded number at once.

    Parameters
    ----------
    connection
        To the API server; its pool bounds the number of writes under way.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def write(self, target: Target, status: Mapping[str, Any]) -> Written:
        """Replace the status of exactly this object in exactly this generation.

        Tries until the API server has answered: an answer is not lost to a restart of the API server, nor to
        credentials that have run out and are not renewed yet.

        Parameters
        ----------
        target
            Which object.
        status
            The whole status; values may be `msgspec.Raw` JSON.

        Raises
        ------
        ApiError
            If the API server answers, but refuses again and again for a reason that may pass.
        """
        body = msgspec.json.encode(
            [
                {"op": "test", "path": "/metadata/uid", "value": target.uid},
                {"op": "test", "path": "/metadata/generation", "value": target.generation},
                {"op": "add", "path": "/status", "value": status},
            ]
        )
        path = target.path("status")
        attempt, refusals = 0, 0
        while True:
            try:
                await self._connection.request("PATCH", path, body=body, content_type=JSON_PATCH, accept=METADATA_ONLY)
            except ApiError as error:
                if error.status == 404:
                    return Written.DROPPED
                if error.status in (400, 422):
                    return await self._judge_refusal(target, error)
                if error.too_large_to_store or (error.status not in (401, 403, 409) and not error.retriable):
                    logger.error("%s: the status was refused: %s", target, error)
                    return Written.REFUSED
                refusals += 1
                if refusals >= MAX_REFUSALS:
                    raise
                delay = error.retry_after_seconds or _backoff(attempt)
                # A conflict is the API server's own retry limit; the guard is in the patch, so trying again is safe.
                logger.log(
                    logging.WARNING if error.status != 409 else logging.DEBUG,
                    "%s: the status is not written yet, trying again in %.1f s: %s", target, delay, error,
                )  # fmt: skip
            except UnavailableError as error:
                delay = _backoff(attempt)
                logger.warning("%s: the status is not written yet, trying again in %.1f s: %s", target, delay, error)
            else:
                return Written.DONE
            attempt += 1
            await asyncio.sleep(delay)

    async def _judge_refusal(self, target: Target, error: ApiError) -> Written:
        """Tell a failed test of the patch (not our object any more) from a status that breaks the schema."""
        attempt = 0
        while True:
            try:
                current = await self._connection.get(target.path())
                break
            except ApiError as again:
                if again.status == 404:
                    return Written.DROPPED
            except UnavailableError:
                pass
            # Not known yet: a drop by mistake would leave the request without an answer, as no event follows it.
            await asyncio.sleep(_backoff(attempt))
            attempt += 1
        metadata = current["metadata"]
        if metadata["uid"] != target.uid or metadata["generation"] != target.generation:
            return Written.DROPPED
        logger.error("%s: the status was refused: %s", target, error)
        return Written.REFUSED


def _backoff(attempt: int) -> float:
    delay = min(0.1 * 2.0 ** min(attempt, 10), MAX_BACKOFF_SECONDS)  # 2.0**1024 is an error, after hours of an outage
    return delay * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, no secret
