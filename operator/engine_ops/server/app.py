"""The web application: every route, and what stands before all of them."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from engine_ops.server import optimize, plugins, workload_data
from engine_ops.server.about import About
from engine_ops.server.answer_limit import AnswerLimit
from engine_ops.server.authentication import Authentication, username_in
from engine_ops.server.body_limit import SHARE, Bodies, BodyLimit
from engine_ops.server.openapi_document import document
from engine_ops.server.optimizer import Optimizer
from engine_ops.server.problem_handlers import NoRoute, Problems, answer_invalid, answer_problem
from engine_ops.server.problems import ProblemError
from engine_ops.server.rate_limit import RateLimiter
from engine_ops.server.services import ApiLimits, Services


def create_app(services: Services, *, version: str) -> FastAPI:
    """Return the application, an ASGI application.

    Its ``state`` has the `Optimizer` as ``optimizer``, to be drained at the end, and the services as ``services``.

    Parameters
    ----------
    services
        What it works with.
    version
        Of this program, which health tells.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    optimizer = Optimizer(services)
    app.state.services = services
    app.state.optimizer = optimizer
    about = About(
        version=version,
        document=lambda: document(app),
        numbers=optimizer.numbers,
        cache=optimizer.cache.stats,
    )
    # The order counts: each route costs those after it a look, and plugins/workload-data is no plugin.
    routers = (optimize.router(optimizer), about.router(), workload_data.router(), plugins.router())
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(ProblemError, answer_problem)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(HTTPException, NoRoute(route for router in routers for route in router.routes))
    # From the inside out: a body that is too long costs no look at a token, and whatever is raised is answered.
    limits = services.limits
    app.add_middleware(
        Authentication, access=services.access, limiter=_limiter(limits), at_once=limits.requests_at_once
    )
    app.add_middleware(
        BodyLimit,
        limit_bytes=limits.body_bytes,
        together=Bodies(max(limits.bodies_bytes, SHARE * limits.body_bytes)),
        owner=username_in,
    )
    app.add_middleware(AnswerLimit, together=Bodies(limits.answers_bytes), owner=username_in)
    app.add_middleware(Problems)
    return app


def _limiter(limits: ApiLimits) -> RateLimiter | None:
    if limits.requests_per_second <= 0:
        return None
    return RateLimiter(limits.requests_per_second, max(1, limits.burst))
