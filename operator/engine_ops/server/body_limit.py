"""How long a request's body may be, and all of them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine_ops.server.problems import ProblemError

_MAX_DIGITS: Final = 18
_COUNTED: Final = "engine_ops.body"

SHARE: Final = 2
"""One user's bodies may take one part in so many of what there is for all."""


class Bodies:
    """The bytes of all bodies that have come and are in nobody's hands yet, or of all answers that are on their way.

    Parameters
    ----------
    limit_bytes
        How many there may be.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._of: Counter[str] = Counter()
        self.size_bytes = 0

    def take(self, owner: str, size_bytes: int, *, at_least_one: bool = False) -> bool:
        """Count bytes; return False, and count nothing, where there is no room for them.

        Parameters
        ----------
        owner
            Whose they are.
        size_bytes
            How many.
        at_least_one
            Whether who has none gets room in any case.
        """
        full = (
            self.size_bytes + size_bytes > self._limit_bytes
            or self._of[owner] + size_bytes > self._limit_bytes // SHARE
        )
        if full and (self._of[owner] or not at_least_one):
            return False
        self.size_bytes += size_bytes
        self._of[owner] += size_bytes
        return True

    def give_back(self, owner: str, size_bytes: int) -> None:
        """Take note that bytes have been let go."""
        self.size_bytes -= size_bytes
        self._of[owner] -= size_bytes
        if not self._of[owner]:
            del self._of[owner]


class BodyLimit:
    """ASGI middleware: answers 413 to a body that is too long, and closes the connection.

    A body that says its length is not read at all. One that does not (chunked) is counted; where it gets too long the
    application behind sees a client that has gone, and whatever it says then is dropped: frameworks turn an exception
    out of ``receive`` into an answer of their own.

    Parameters
    ----------
    app
        The application behind.
    limit_bytes
        The longest body.
    together
        Bounds what all bodies take until they are answered, or `taken`; further ones are told 503. None for no bound.
    owner
        Names whose a request is, when its body comes.
    """

    def __init__(
        self,
        app: ASGIApp,
        limit_bytes: int,
        together: Bodies | None = None,
        owner: Callable[[Scope], str] = lambda _: "",
    ) -> None:
        self.app = app
        self.limit_bytes = limit_bytes
        self.together = together
        self.owner = owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # The server lets nothing but digits come so far; any number of them may be zeros before the number.
        digits = Headers(scope=scope).get("content-length", "").lstrip("0")
        if digits.isdecimal() and (len(digits) > _MAX_DIGITS or int(digits) > self.limit_bytes):
            await _too_large(self.limit_bytes).response()(scope, receive, send)
            return
        counted = scope[_COUNTED] = _Counted(self, scope, receive, send)
        try:
            await self.app(scope, counted.receive, counted.send)
        except Exception:
            if not counted.refused:
                raise
        finally:
            counted.let_go()


def taken(scope: Scope) -> None:
    """Take note that a request's body is let go, or is in the hands of something that has a bound of its own."""
    counted: _Counted | None = scope.get(_COUNTED)
    if counted is not None:
        counted.let_go()


class _Counted:
    """The body of one request on its way, counted."""

    def __init__(self, limit: BodyLimit, scope: Scope, receive: Receive, send: Send) -> None:
        self.refused = False
        self._limit = limit
        self._scope = scope
        self._receive = receive
        self._send = send
        self._received_bytes = 0
        self._held_bytes = 0
        self._owner: str | None = None
        self._started = False

    async def receive(self) -> Message:
        if self.refused:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] != "http.request":
            return message
        size_bytes = len(message.get("body", b""))
        self._received_bytes += size_bytes
        if self._received_bytes > self._limit.limit_bytes:
            return await self._refuse(_too_large(self._limit.limit_bytes))
        if size_bytes and not self._hold(size_bytes):
            return await self._refuse(_too_many())
        return message

    async def send(self, message: Message) -> None:
        if self.refused and not self._started:
            return
        self._started = True
        await self._send(message)

    def let_go(self) -> None:
        if self._limit.together is not None and self._owner is not None:
            self._limit.together.give_back(self._owner, self._held_bytes)
            self._held_bytes = 0
            self._owner = None

    def _hold(self, size_bytes: int) -> bool:
        if self._limit.together is None:
            return True
        if self._owner is None:
            self._owner = self._limit.owner(self._scope)
        if not self._limit.together.take(self._owner, size_bytes):
            return False
        self._held_bytes += size_bytes
        return True

    async def _refuse(self, problem: ProblemError) -> Message:
        self.refused = True
        self.let_go()
        if not self._started:
            await problem.response()(self._scope, self._receive, self._send)
        return {"type": "http.disconnect"}


def _too_large(limit_bytes: int) -> ProblemError:
    return ProblemError(
        "too-large",
        f"the body is longer than {limit_bytes} bytes; nothing of it was used",
        headers={"Connection": "close"},
    )


def _too_many() -> ProblemError:
    return ProblemError(
        "busy",
        "There are too many long bodies at once. Send it again later.",
        headers={"Connection": "close", "Retry-After": "1"},
    )
