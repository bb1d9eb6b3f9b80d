"""An API server that reviews tokens and rights as a test says, for `engine_ops.server.access` and the plugin switch."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from fake_api_server import FakeNodes, serving

from engine_ops.kube.access_reviews import ACCESS_REVIEWS, TOKEN_REVIEWS
from engine_ops.kube.connection import Connection
from engine_ops.server.access import KubeAccess

DEADLINE_SECONDS = 60.0
OWN_TOKEN = "the-operators-own"
EXTRA_KEY = "authentication.kubernetes.io/pod-name"
Answer = Callable[[dict[str, Any]], Awaitable[web.Response]]


class FakeReviews:
    """An API server that knows the tokens ``good-NAME``, lets ``good-admin`` do everything, and keeps one plugin.

    Attributes
    ----------
    tokens, rights : list of dict
        The specs of the reviews that came.
    headers : list of dict
        Of all requests.
    instead : callable or None
        Answers reviews instead.
    """

    def __init__(self) -> None:
        self.tokens: list[dict[str, Any]] = []
        self.rights: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.patches: list[list[dict[str, Any]]] = []
        self.instead: Answer | None = None
        self.audiences: list[str] | None = None
        self.plugin_instead: Callable[[str], web.Response | None] = lambda _: None

    def routes(self, app: web.Application) -> None:
        app.router.add_post(TOKEN_REVIEWS, self.review_token)
        app.router.add_post(ACCESS_REVIEWS, self.review_access)
        app.router.add_route("*", "/apis/engineops.dev/v1alpha1/optimizerplugins/{name}", self.plugin)

    async def review_token(self, request: web.Request) -> web.Response:
        review = await self._came(request, self.tokens)
        if self.instead is not None:
            return await self.instead(review)
        kind, _, name = review["spec"]["token"].partition("-")
        status: dict[str, Any] = {"authenticated": kind == "good"}
        if kind == "good":
            user = {"username": name, "uid": "7", "groups": ["staff"], "extra": {EXTRA_KEY: ["pod-1"]}}
            status["user"] = user
            if self.audiences is not None:
                status["audiences"] = self.audiences
        else:
            status["error"] = f"[invalid bearer token {review['spec']['token']}]"
        return web.json_response({**review, "status": status}, status=201)

    async def review_access(self, request: web.Request) -> web.Response:
        review = await self._came(request, self.rights)
        if self.instead is not None:
            return await self.instead(review)
        return web.json_response({**review, "status": {"allowed": review["spec"]["user"] == "admin"}}, status=201)

    async def plugin(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        body = {"metadata": {"name": request.match_info["name"], "resourceVersion": "1"}, "spec": {"enabled": True}}
        if request.method == "PATCH":
            self.patches.append(await request.json())
        return self.plugin_instead(request.method) or web.json_response(body)

    async def _came(self, request: web.Request, to: list[dict[str, Any]]) -> dict[str, Any]:
        review: dict[str, Any] = await request.json()
        self.headers.append(dict(request.headers))
        to.append(review["spec"])
        return review


class Clock:
    """Goes when it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclasses.dataclass
class World:
    server: FakeReviews
    connection: Connection
    clock: Clock

    def access(self, **options: Any) -> KubeAccess:
        return KubeAccess(self.connection, clock=self.clock, **options)


@contextlib.asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    server = FakeReviews()
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        serving(directory, FakeNodes(), token=OWN_TOKEN, routes=server.routes) as connection,
    ):
        yield World(server, connection, Clock())
