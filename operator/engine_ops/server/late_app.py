"""An application that is made on the loop that serves it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)


class LateApp:
    """Makes an application when the lifespan protocol says so, and ends what it was made with.

    Connections and locks belong to an event loop: they cannot be made before there is one.

    Parameters
    ----------
    make
        Makes the application; what is entered into the stack is left when the server ends.
    """

    def __init__(self, make: Callable[[contextlib.AsyncExitStack], Awaitable[ASGIApp]]) -> None:
        self._make = make
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server from its start to its end."""
        if scope["type"] != "lifespan":
            if self._app is None:
                raise RuntimeError("a request came before the start")
            await self._app(scope, receive, send)
            return
        await receive()
        async with contextlib.AsyncExitStack() as stack:
            try:
                self._app = await self._make(stack)
            except Exception as error:
                logger.exception("the application could not be made")
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
