"""What both clients are made with."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import ssl
from collections.abc import Callable, Mapping
from typing import Final

from engine_ops import __version__
from engine_ops.client.credentials import Credentials, base_of, credentials_for

BASE_URL: Final = "http://localhost:3000"
USER_AGENT: Final = f"engine-ops-python/{__version__}"
SILENCE_SECONDS: Final = 60.0
"""A stream of events that says nothing for so long has lost its server, which says something every 15 s."""
RECONNECT_SECONDS: Final = 0.5
"""At least so long after a broken stream of events it is taken up again."""

Token = str | Callable[[], str | None]
Verify = bool | str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What a client is made with, looked at once.

    Parameters
    ----------
    base_url
        Without a slash at its end.
    timeout_seconds
        Of a call, with all its attempts.
    credentials
        What is shown and believed.
    verify
        What the user said of certificates; None for what `credentials` has.
    """

    base_url: str
    timeout_seconds: float
    credentials: Credentials
    verify: bool | str | None

    @classmethod
    def of(
        cls,
        base_url: str,
        timeout: float,
        token: Token | None,
        verify: Verify | None,
        environ: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Look at what the user gave.

        Raises
        ------
        ValueError
            If an address or a time is none, or there are no certificates where ``verify`` says.
        """
        base = base_of(base_url)
        if not timeout > 0:
            raise ValueError(f"timeout: must be above 0 seconds, not {timeout!r}")
        return cls(
            base.geturl(),
            float(timeout),
            credentials_for(base, token, find_ca=verify is None, environ=environ),
            verify if verify is None or isinstance(verify, bool) else _certificates(os.fspath(verify)),
        )


def _certificates(path: str) -> str:
    """Return the path, once there are certificates: the libraries find out at the first call, each in its own words."""
    if not pathlib.Path(path).exists():
        raise ValueError(f"verify: there is no file or directory {path}")
    try:
        authorities(path)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"verify: {path} has no certificates that can be read: {error}") from error
    return path


def authorities(path: str) -> ssl.SSLContext:
    """Return a context that believes the certificates in a file, or a directory as OpenSSL has it, and no others."""
    if pathlib.Path(path).is_dir():
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)
