"""Who calls, how often, and what they may do: asked before anything else of a request is looked at.

`Authentication` stands before the routes, so that no route can forget it. A route asks for the rights that it needs.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from engine_ops.api.fields import DNS_LABEL
from engine_ops.server.callers import PATH_PREFIX, Access, AccessUnavailable, Caller, Right, Unauthenticated
from engine_ops.server.decisions import Recent
from engine_ops.server.problems import ProblemError
from engine_ops.server.rate_limit import RateLimiter, address_key
from engine_ops.server.services import Services
from engine_ops.server.site_check import check_site

ANONYMOUS_PATHS: Final = frozenset({"/api/v1/health"})
"""What is answered to callers without a token."""

LOCAL_NAMESPACE: Final = "default"
"""Where requests count on a machine without Kubernetes."""

NAMESPACE_MAX_LENGTH: Final = 63

GOOD_SECONDS: Final = 3600.0
"""For so long after a token was good its calls are not refused for others that come from the same address."""

_CALLER: Final = "engine_ops.caller"
_TOKEN: Final = re.compile(r"[!-~]{1,16384}")
"""More than ``b64token`` of RFC 6750: some API servers make tokens with a colon."""
_NAMESPACE: Final = re.compile(DNS_LABEL.removeprefix("^").removesuffix("$"))


class Authentication:
    """ASGI middleware: lets only those in who can say who they are, and not too often.

    A user is counted by name. An address is counted for what it asks without a name, and for tokens that are no good:
    who tries many is refused before the API server is asked about another one.

    Parameters
    ----------
    app
        What it stands before.
    access
        Who knows.
    limiter
        Counts calls; None for as many as they like.
    at_once
        How many of one user's calls are answered at a time; 0 for as many as they like. Whoever reads slowly, or
        follows events, holds a connection for as long, of which there are not many.
    """

    def __init__(self, app: ASGIApp, access: Access, limiter: RateLimiter | None = None, *, at_once: int = 0) -> None:
        self._app = app
        self._access = access
        self._limiter = limiter
        self._at_once = at_once
        self._open: Counter[str] = Counter()
        self._good: Recent[bool] = Recent(GOOD_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what comes with a good token, and what needs none.

        Raises
        ------
        ProblemError
            401 if the caller is not known, 429 if they call too often or too much at once; 403 for a page of another
            site on a machine without tokens.
        AccessUnavailable
            If it cannot be known now who calls.
        """
        if scope["type"] == "http":
            client = scope.get("client")
            address = address_key(client[0] if client else None)
            headers = Headers(scope=scope)
            if self._access.open:
                check_site(headers)
            if scope["path"] in ANONYMOUS_PATHS:
                self._count(address)
            else:
                caller = await self._caller(headers, address)
                self._count(f"user:{caller.username}")
                scope[_CALLER] = caller
                await self._answer(caller.username, scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _answer(self, username: str, scope: Scope, receive: Receive, send: Send) -> None:
        if 0 < self._at_once <= self._open[username]:
            raise ProblemError(
                "too-many-requests",
                f"{self._at_once} of your requests are being answered. Wait for one of them, or end it.",
                headers={"Retry-After": "1"},
            )
        self._open[username] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[username] -= 1
            if not self._open[username]:
                del self._open[username]

    async def _caller(self, headers: Headers, address: str) -> Caller:
        if self._access.open:
            return await self._access.authenticate(None)
        try:
            token = _bearer(headers)
            known = hashlib.sha256((token or "").encode()).digest()
            # Who was let in before has nothing to do with what else comes from the same address: of a proxy, perhaps.
            if self._limiter is not None and not self._good.get(known):
                _refuse(self._limiter.wait_seconds(address))
            caller = await self._access.authenticate(token)
        except Unauthenticated as error:
            self._count(address)
            raise _unauthenticated(str(error)) from None
        self._good.put(known, True)
        return caller

    def _count(self, key: str) -> None:
        if self._limiter is not None:
            _refuse(self._limiter.take(key))


def services_of(request: HTTPConnection) -> Services:
    """Return what the application works with."""
    services: Services = request.app.state.services
    return services


def username_in(scope: Scope) -> str:
    """Return who calls, by name; empty where that is not known."""
    caller: Caller | None = scope.get(_CALLER)
    return "" if caller is None else caller.username


def caller_of(request: HTTPConnection) -> Caller:
    """Return who calls; a dependency too.

    Raises
    ------
    ProblemError
        If that is not known: on a path of `ANONYMOUS_PATHS`.
    """
    caller: Caller | None = request.scope.get(_CALLER)
    if caller is None:
        raise _unauthenticated("This needs a bearer token.")
    return caller


async def permits(request: HTTPConnection, right: Right) -> bool:
    """Whether the caller has a right.

    Raises
    ------
    AccessUnavailable
        If that cannot be known now.
    """
    access = services_of(request).access
    return access.open or await access.allowed(caller_of(request), right)


async def still_permits(request: HTTPConnection, right: Right) -> bool:
    """Whether the caller of a request that takes long would be let in again. Where that cannot be known they stay."""
    access = services_of(request).access
    caller = caller_of(request)
    try:
        again = await access.authenticate(caller.token)
        return again.username == caller.username and (access.open or await access.allowed(again, right))
    except Unauthenticated:
        return False
    except AccessUnavailable:
        return True


async def require(request: HTTPConnection, right: Right) -> None:
    """Refuse a caller who does not have a right.

    Raises
    ------
    ProblemError
        403, which says what kubectl would need.
    AccessUnavailable
        If that cannot be known now.
    """
    if not await permits(request, right):
        raise ProblemError("forbidden", f"{caller_of(request).username} may not {describe(right)}.")


async def namespace_of(request: HTTPConnection, caller: Caller) -> str:
    """Return the namespace where a request counts: ``?namespace=``, else a ServiceAccount's own.

    Raises
    ------
    ProblemError
        400 if there is neither, 422 if the parameter is no name of a namespace.
    """
    asked = asked_namespace(request)
    if asked is not None:
        return asked
    if caller.namespace is not None:
        return caller.namespace
    if services_of(request).access.open:
        return LOCAL_NAMESPACE
    raise ProblemError(
        "namespace-missing",
        f"{caller.username} is no ServiceAccount, which would have a namespace of its own: add ?namespace= to the URL.",
    )


def asked_namespace(request: HTTPConnection) -> str | None:
    """Return the parameter ``namespace``; None where there is none.

    Raises
    ------
    ProblemError
        422 if it is given twice, or no name of a namespace.
    """
    given = request.query_params.getlist("namespace")
    if not given:
        return None
    if len(given) > 1 or len(given[0]) > NAMESPACE_MAX_LENGTH or not _NAMESPACE.fullmatch(given[0]):
        raise ProblemError(
            "invalid",
            "The query parameter namespace is not valid.",
            errors=[("namespace", "must be the name of one namespace: small letters, digits and -, at most 63")],
        )
    return given[0]


def describe(right: Right) -> str:
    """Return a right in words, as the API server's own refusals have it.

    >>> describe(Right("get", "optimizationrequests", "history", namespace="shop"))
    'get optimizationrequests/history of the API group engineops.dev in the namespace shop'
    """
    if right.path:
        return f"{right.verb} the path {PATH_PREFIX}{right.path} (nonResourceURLs)"
    resource = f"{right.resource}/{right.subresource}" if right.subresource else right.resource
    name = f' "{right.name}"' if right.name else ""
    where = f" in the namespace {right.namespace}" if right.namespace else ""
    return f"{right.verb} {resource}{name} of the API group engineops.dev{where}"


def _unauthenticated(detail: str) -> ProblemError:
    return ProblemError("unauthenticated", detail, headers={"WWW-Authenticate": "Bearer"})


def _refuse(wait_seconds: float | None) -> None:
    if wait_seconds is not None:
        seconds = math.ceil(wait_seconds)
        raise ProblemError(
            "too-many-requests", f"Try again in {seconds} s, and less often.", headers={"Retry-After": str(seconds)}
        )


def _bearer(headers: Headers) -> str | None:
    """Return the token; None where there is none.

    Raises
    ------
    Unauthenticated
        If there is a header that holds no token.
    """
    given = headers.getlist("authorization")
    if not given:
        return None
    scheme, _, token = given[0].partition(" ")
    token = token.strip()
    if len(given) > 1 or scheme.lower() != "bearer" or not _TOKEN.fullmatch(token):
        raise Unauthenticated("The header Authorization must be one bearer token: Authorization: Bearer <token>.")
    return token
