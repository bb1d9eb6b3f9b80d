"""Who calls the REST API, and what they may do: the API server's word, kept for some seconds.

A token is never kept: what is remembered of it is its SHA-256. A token that is revoked, and a right that is taken away,
stop counting when what is remembered has grown old.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import msgspec

from engine_ops.api.base import GROUP
from engine_ops.kube.access_reviews import (
    PathAttributes,
    ResourceAttributes,
    ReviewedUser,
    review_access,
    review_token,
)
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError
from engine_ops.server.callers import PATH_PREFIX, AccessUnavailable, Caller, Right, Unauthenticated
from engine_ops.server.decisions import MAX_ENTRIES, Recent, SingleFlight

DECISION_SECONDS: Final = 10.0
REVIEW_SECONDS: Final = 10.0
"""How long the API server may take; a caller waits for no longer."""
WARNING_SECONDS: Final = 60.0
"""The log says at most so often that it cannot be asked."""

_TOKEN: Final = re.compile(r"[!-~]{1,16384}")
"""Printable and without spaces. Wider than RFC 6750: the API server takes tokens with colons too."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class KubeAccess:
    """Asks the API server; see `engine_ops.server.callers.Access`.

    Parameters
    ----------
    connection
        To the API server with the operator's own credentials, opened on the API's loop. It takes the rights of the
        ClusterRole ``system:auth-delegator``.
    audiences
        One of which a token must be for; empty for the API server's own.
    seconds
        For how long an answer is good.
    entries
        So many answers of each kind are remembered at most.
    clock
        Seconds that only grow.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        audiences: Sequence[str] = (),
        seconds: float = DECISION_SECONDS,
        entries: int = MAX_ENTRIES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._audiences = tuple(audiences)
        self._clock = clock
        self._callers: Recent[Caller] = Recent(seconds, entries, clock=clock)
        # Apart: whoever tries tokens at random must not displace the good ones.
        self._refused: Recent[bool] = Recent(seconds, entries, clock=clock)
        self._rights: Recent[bool] = Recent(seconds, entries, clock=clock)
        self._token_reviews: SingleFlight[Caller | None] = SingleFlight()
        self._access_reviews: SingleFlight[bool] = SingleFlight()
        self._warned_at: float | None = None

    @property
    def open(self) -> bool:
        """Tokens are needed."""
        return False

    async def authenticate(self, token: str | None) -> Caller:
        """Return who calls; see `engine_ops.server.callers.Access`."""
        if not token:
            raise Unauthenticated("There is no token: send the header Authorization: Bearer <token>.")
        if not _TOKEN.fullmatch(token):
            raise Unauthenticated("The token cannot be one: it is too long, or has characters that no token has.")
        key = hashlib.sha256(token.encode()).digest()
        caller = self._callers.get(key)
        if caller is None and not self._refused.get(key):
            caller = await self._token_reviews.run(key, lambda: self._review_token(key, token))
        if caller is None:
            raise Unauthenticated(
                "The token is not good: it has expired or was revoked, or is not for this API or not of this cluster."
            )
        return dataclasses.replace(caller, token=token)

    async def allowed(self, caller: Caller, right: Right) -> bool:
        """Whether a caller has a right; see `engine_ops.server.callers.Access`."""
        extra = sorted(caller.extra.items())
        question = [caller.username, caller.uid, caller.groups, extra, dataclasses.astuple(right)]
        key = hashlib.sha256(msgspec.json.encode(question)).digest()
        known = self._rights.get(key)
        if known is not None:
            return known
        return await self._access_reviews.run(key, lambda: self._review_access(key, caller, right))

    async def _review_token(self, key: bytes, token: str) -> Caller | None:
        user = await self._ask(review_token(self._connection, token, self._audiences), "who calls", token)
        if user is None:
            self._refused.put(key, True)
            return None
        caller = Caller(user.username, user.uid, user.groups, user.extra)
        self._callers.put(key, caller)
        return caller

    async def _review_access(self, key: bytes, caller: Caller, right: Right) -> bool:
        user = ReviewedUser(caller.username, caller.uid, caller.groups, caller.extra)
        answer = await self._ask(review_access(self._connection, user, _attributes(right)), "what a caller may do")
        self._rights.put(key, answer)
        return answer

    async def _ask(self, review: Coroutine[Any, Any, _T], what: str, secret: str = "") -> _T:
        """Ask the API server.

        Raises
        ------
        AccessUnavailable
            If it does not tell. Why stands in the log only: it is no business of somebody unknown.
        """
        try:
            async with asyncio.timeout(REVIEW_SECONDS):
                return await review
        except TimeoutError:
            why = f"no answer within {REVIEW_SECONDS:.0f} s"
        except (ApiError, ConnectError, UnavailableError) as error:
            why = str(error)
        # Not `from` the error either: a refusal may quote what it refuses.
        self._warn(what, why.replace(secret, "(the token)") if secret else why)
        raise AccessUnavailable(f"The Kubernetes API server, which knows {what}, cannot be asked now. Try again.")

    def _warn(self, what: str, why: str) -> None:
        now = self._clock()
        if self._warned_at is None or now - self._warned_at >= WARNING_SECONDS:
            self._warned_at = now
            _log.warning("the API server cannot be asked %s, and callers are turned away: %s", what, why)


def _attributes(right: Right) -> ResourceAttributes | PathAttributes:
    if right.path:
        return PathAttributes(verb=right.verb, path=PATH_PREFIX + right.path)
    return ResourceAttributes(
        verb=right.verb,
        group=GROUP,
        resource=right.resource,
        subresource=right.subresource,
        namespace=right.namespace,
        name=right.name,
    )
