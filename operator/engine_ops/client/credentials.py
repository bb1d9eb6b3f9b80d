"""Which token is sent, where it is sent, and which certificates are believed."""

from __future__ import annotations

import os
import pathlib
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Final, Protocol
from urllib.parse import SplitResult, urlsplit

from engine_ops.client.kubeconfig import current_context

SERVICE_ACCOUNT: Final = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""What a Pod has of its ServiceAccount: ``token`` and ``ca.crt``."""

_PORTS: Final = {"http": 80, "https": 443}

Origin = tuple[str, str, int | None]


class TokenSource(Protocol):
    """Where the token of the next request comes from."""

    def __call__(self) -> str | None:
        """Return it as it is now; None for none."""


class TokenFile:
    """A token in a file that turns: read again when the file has changed. Can be used by several threads.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._token: str | None = None

    def __call__(self) -> str | None:
        """Return the token as it is now; the last one where the file is being replaced."""
        with self._lock:
            try:
                # The kubelet swaps a link to a directory: another inode. Others write in place: another time.
                stat = self._path.stat()
                seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if seen != self._seen:
                    self._token = self._path.read_text("utf-8").strip() or None
                    self._seen = seen
            except (OSError, UnicodeDecodeError):
                pass
            return self._token


class Credentials:
    """What a client shows, and what it believes.

    Parameters
    ----------
    origin
        Of the API. A token is sent nowhere else.
    token
        Where it comes from; None for no token.
    ca_pem
        Certificates that are believed besides the system's; None for no others.
    """

    def __init__(self, origin: Origin, token: TokenSource | None, ca_pem: str | None) -> None:
        self.origin = origin
        self.ca_pem = ca_pem
        self._token = token

    def authorization(self, url: str) -> str | None:
        """Return the Authorization header for a request; None where there is to be none.

        Parameters
        ----------
        url
            Of the request: that of a redirect may be another's.

        Raises
        ------
        ValueError
            If the token can be none. It is not shown.
        """
        if self._token is None or origin_of(urlsplit(url)) != self.origin:
            return None
        token = _checked(self._token())
        return f"Bearer {token}" if token else None

    def ssl_context(self) -> ssl.SSLContext:
        """Return a context that believes the system's CAs and those that were found."""
        context = ssl.create_default_context()
        if self.ca_pem is not None:
            context.load_verify_locations(cadata=self.ca_pem)
        return context


def base_of(base_url: str) -> SplitResult:
    """Return the parts of a base URL.

    Raises
    ------
    ValueError
        If it is no http or https address of a host, or has a user, a query or a fragment.
    """
    parts = urlsplit(base_url.rstrip("/"))
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"base_url: must be like http://localhost:3000, not {base_url!r}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("base_url: has a user, a query or a fragment; a token is given as token=")
    return parts


def origin_of(parts: SplitResult) -> Origin:
    """Return scheme, host and port: what a token belongs to."""
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme, (parts.hostname or "").rstrip("."), port if port is not None else _PORTS.get(parts.scheme)


def credentials_for(
    base: SplitResult,
    token: str | Callable[[], str | None] | None,
    *,
    find_ca: bool,
    service_account: pathlib.Path = SERVICE_ACCOUNT,
    environ: Mapping[str, str] = os.environ,
) -> Credentials:
    """Return what a client shows and believes.

    Parameters
    ----------
    base
        Of the API.
    token
        The user's own, or a function that returns it: always sent. Empty for none, and none is looked for. None looks
        for one: the Pod's, else that of the current context of the kubeconfig. A token that was found is for https
        only: nobody on the way may read what nobody thought of sending.
    find_ca
        Whether to look for a CA where the token is.
    service_account, environ
        Where to look.

    Raises
    ------
    ValueError
        If the user's token can be none. It is not shown.
    """
    origin = origin_of(base)
    if token is not None:
        return Credentials(origin, _given(token), None)
    if base.scheme != "https":
        return Credentials(origin, None, None)
    pod_token = service_account / "token"
    if pod_token.exists():
        return Credentials(origin, TokenFile(pod_token), _pem(service_account / "ca.crt") if find_ca else None)
    context = current_context(environ)
    found: TokenSource | None = None
    if context.token_file is not None:
        found = TokenFile(context.token_file)
    elif context.token is not None:
        found = _given(context.token)
    return Credentials(origin, found, _good(context.ca_pem) if find_ca else None)


def _given(token: str | Callable[[], str | None]) -> TokenSource:
    if callable(token):
        return token
    checked = _checked(token)
    return lambda: checked


def _checked(token: str | None) -> str | None:
    """Return a token without the line break that its file ended with.

    Raises
    ------
    ValueError
        If it has characters that no header may have. Libraries would show the whole of it in their messages.
    """
    bare = (token or "").strip()
    if not all("!" <= character <= "~" for character in bare):
        raise ValueError("token: has spaces, line breaks or characters that no token has (it is not shown here)")
    return bare or None


def _pem(path: pathlib.Path) -> str | None:
    try:
        return _good(path.read_text("ascii"))
    except (OSError, UnicodeDecodeError):
        return None


def _good(pem: str | None) -> str | None:
    """Return certificates that can be read; None for others: what was only found must not be in the way."""
    if pem is None:
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        return None
    return pem
