"""Patience with an API server that is starting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from engine_ops.kube.errors import ApiError, UnavailableError

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

API_SERVER_PATIENCE_SECONDS: Final = 60.0


async def patiently(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Return what the API server says, giving one that is starting itself, or learning of a new kind, some time.

    Raises
    ------
    ApiError, UnavailableError
        If it still refuses, or is not there.
    """
    deadline = asyncio.get_running_loop().time() + API_SERVER_PATIENCE_SECONDS
    while True:
        try:
            return await ask()
        except (ApiError, UnavailableError) as error:
            # One that has just begun to listen answers 503 until it knows all of its paths; of a definition that was
            # just applied it says 429 for a moment.
            wait = not isinstance(error, ApiError) or error.retriable
            if not wait or asyncio.get_running_loop().time() > deadline:
                raise
            logger.warning("waiting for the API server: %s", error)
            await asyncio.sleep(1.0)
