"""Work beside other work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def in_background(work: asyncio._CoroutineLike[None], name: str) -> AsyncIterator[None]:
    """Run something beside the block. When it fails the block is cancelled, and its error is the one that counts."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work, name=name)
        yield
        task.cancel()
