"""A requests.Session that carries a token and certificates, and keeps both where they belong."""

from __future__ import annotations

from typing import Any, Final

import requests
import requests.adapters
import requests.auth

from engine_ops.client.credentials import Credentials
from engine_ops.client.settings import USER_AGENT, Settings

CONNECTIONS: Final = 32
"""So many are kept open; more threads at once open further ones for a call each."""


def new_session(settings: Settings) -> requests.Session:
    """Return a session for direct use too: ``client.session.get(f"{client.base_url}/...")``.

    Parameters
    ----------
    settings
        Of the client.
    """
    session = _Session()
    session.headers["User-Agent"] = USER_AGENT
    session.auth = _BearerAuth(settings.credentials)
    if settings.verify is not None:
        session.verify = settings.verify
    scheme, host, port = settings.credentials.origin
    shown_host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[scheme] == port
    believed = scheme == "https" and settings.verify is None
    adapter = _Adapter(settings.credentials) if believed else _plain_adapter()
    # Longer prefixes go first. Certificates that were found are believed of the API alone.
    session.mount(f"{scheme}://{shown_host}:{port}/", adapter)
    if default:
        session.mount(f"{scheme}://{shown_host}/", adapter)
    return session


def _plain_adapter() -> requests.adapters.HTTPAdapter:
    return requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS)


class _Session(requests.Session):
    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        # What the user said of certificates goes before REQUESTS_CA_BUNDLE; in requests it is the other way round.
        if verify is None and self.verify is not True:
            verify = self.verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)


class _BearerAuth(requests.auth.AuthBase):
    """Shows the token to the API and to nobody else. That there is an `auth` keeps ``~/.netrc`` out, too."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        shown = self._credentials.authorization(request.url or "")
        if shown is not None and "Authorization" not in request.headers:
            request.headers["Authorization"] = shown
        return request


class _Adapter(requests.adapters.HTTPAdapter):
    """Believes the system's CAs and those that were found, besides what requests believes."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        super().__init__(pool_maxsize=CONNECTIONS)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        options["ssl_context"] = self._credentials.ssl_context()
        super().init_poolmanager(connections, maxsize, block, **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        options["ssl_context"] = self._credentials.ssl_context()
        return super().proxy_manager_for(proxy, **options)
