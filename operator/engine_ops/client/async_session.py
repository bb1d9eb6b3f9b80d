"""An aiohttp.ClientSession that carries a token and certificates, and keeps both where they belong."""

from __future__ import annotations

import ssl

import aiohttp

from engine_ops.client.credentials import Credentials
from engine_ops.client.settings import USER_AGENT, Settings, authorities


def new_session(settings: Settings) -> aiohttp.ClientSession:
    """Return a session; to be called where the event loop runs.

    Parameters
    ----------
    settings
        Of the client.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=_certificates(settings)),
        headers={"User-Agent": USER_AGENT},
        middlewares=(_bearer(settings.credentials),),
    )


def _certificates(settings: Settings) -> ssl.SSLContext | bool:
    verify = settings.verify
    if settings.credentials.origin[0] != "https" or verify is True:
        return True
    if verify is None:
        return settings.credentials.ssl_context()
    if verify is False:
        return False
    return authorities(verify)


def _bearer(credentials: Credentials) -> aiohttp.ClientMiddlewareType:
    """Show the token to the API and to nobody else: redirects pass through here, too."""

    async def show(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        shown = credentials.authorization(str(request.url))
        if shown is not None and "Authorization" not in request.headers:
            request.headers["Authorization"] = shown
        return await handler(request)

    return show
