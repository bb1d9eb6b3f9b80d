"""Options of `engine-ops run` for the REST API."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

_OPTIONS = (
    click.option(
        "--api",
        metavar="ADDRESS",
        help="Serve the REST API there, such as https://0.0.0.0:3443, or http://127.0.0.1:3000. Default: not at all.",
    ),
    click.option("--api-tls-cert", metavar="FILE", help="Of https: PEM. Read again when it turns."),
    click.option("--api-tls-key", metavar="FILE", help="Its key: PEM, without a passphrase."),
    click.option(
        "--api-plain-http",
        is_flag=True,
        help="Let tokens come unencrypted from other machines: only where something else encrypts.",
    ),
    click.option(
        "--api-audience",
        "api_audiences",
        metavar="AUDIENCE",
        multiple=True,
        help="That tokens must be for; may be repeated. Default: the API server's own.",
    ),
    click.option(
        "--api-requests-per-second",
        type=click.FloatRange(min=0.1),
        default=100.0,
        show_default=True,
        help="Of one user, on average; twice as many at once.",
    ),
)


def api_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options. It gets them as ``api``: the fields of an `ApiConfig`, None for no API."""

    @functools.wraps(command)
    def with_options(
        *,
        api: str | None,
        api_tls_cert: str | None,
        api_tls_key: str | None,
        api_plain_http: bool,
        api_audiences: tuple[str, ...],
        api_requests_per_second: float,
        **others: Any,
    ) -> Any:
        fields = {
            "address": api,
            "tls_cert": api_tls_cert,
            "tls_key": api_tls_key,
            "plain_http": api_plain_http,
            "audiences": api_audiences,
            "requests_per_second": api_requests_per_second,
        }
        return command(api=None if api in {None, "none"} else fields, **others)

    decorated: Callable[..., Any] = with_options
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
