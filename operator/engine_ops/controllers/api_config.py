"""How the operator serves the REST API."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig:
    """How the operator serves the REST API.

    Parameters
    ----------
    address
        Such as ``https://0.0.0.0:3443``.
    tls_cert, tls_key
        PEM files, read again when they turn; both or none.
    plain_http
        Whether tokens may come unencrypted from other machines.
    audiences
        That tokens must be for; empty for the API server's own.
    requests_per_second
        Of one user, on average; twice as many at once.
    """

    address: str
    tls_cert: str | None = None
    tls_key: str | None = None
    plain_http: bool = False
    audiences: tuple[str, ...] = ()
    requests_per_second: float = 100.0
