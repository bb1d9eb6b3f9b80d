"""Coroutines of stores on this machine, driven without an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in this thread, which may have an event loop or none.

    Parameters
    ----------
    coroutine
        One that never waits for anything, such as those of a log above a store on this machine.

    Returns
    -------
    object
        What it returned.

    Raises
    ------
    RuntimeError
        If it waited for something: it needs an event loop.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    # Its own clean-up still runs, as when a task is cancelled.
    coroutine.close()
    raise RuntimeError("the coroutine waits for something: it needs an event loop")


async def pause(seconds: float) -> None:
    """Sleep, in an event loop or without one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        time.sleep(seconds)  # noqa: ASYNC251 - there is no loop that it could hold
    else:
        await asyncio.sleep(seconds)
