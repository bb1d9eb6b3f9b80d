"""What the REST API is made of."""

from __future__ import annotations

import dataclasses

from engine_ops.server.backend import Engine
from engine_ops.server.callers import Access
from engine_ops.server.plugin_changes import PluginSwitch


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiLimits:
    """What a caller can ask for.

    Parameters
    ----------
    body_bytes
        Of a request's body; a longer one is refused unread.
    bodies_bytes
        Of all bodies together that have come and are not being worked on yet; of one user half of it.
    answers_bytes
        Of all long answers together that are not read yet; of one user half of it, or one answer.
    body_seconds
        For a body to arrive.
    requests_per_second, burst
        Of one user, or of one address before it is known who calls.
    requests_at_once
        Of one user that are not answered yet, streams among them; 0 for as many as they like.
    in_flight_per_worker
        So many questions are being answered at once for each worker; further ones are told to come later.
    cache_entries, cache_bytes
        Of the result cache; 0 entries for none.
    kept_jobs, kept_jobs_bytes, kept_jobs_seconds
        How many finished asynchronous requests of all users are kept to be fetched, how large their answers are
        together, and for how long.
    """

    body_bytes: int = 10 * 2**20
    bodies_bytes: int = 64 * 2**20
    answers_bytes: int = 128 * 2**20
    body_seconds: float = 30.0
    requests_per_second: float = 100.0
    burst: int = 200
    requests_at_once: int = 250
    in_flight_per_worker: int = 2
    cache_entries: int = 1000
    cache_bytes: int = 32 * 2**20
    kept_jobs: int = 500
    kept_jobs_bytes: int = 64 * 2**20
    kept_jobs_seconds: float = 600.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the application works with.

    Parameters
    ----------
    engine
        Reached from the API's loop: an `engine_ops.server.bridge.BridgedEngine`.
    access
        Who may do what.
    switch
        Changes plugins; None where nothing can be changed.
    limits
        What a caller can ask for.
    """

    engine: Engine
    access: Access
    switch: PluginSwitch | None
    limits: ApiLimits = dataclasses.field(default_factory=ApiLimits)
