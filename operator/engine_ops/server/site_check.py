"""On a machine without tokens: programs of this machine are served, and no page of another site in its user's browser.

A browser says where a page is from (``Origin``, ``Sec-Fetch-Site``), and cannot hide the name by which it found the
server: another one than this machine's has been bound to it by somebody else (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from engine_ops.server.problems import ProblemError

_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9.-]+))(?::[0-9]{0,5})?")
"""As RFC 9110, section 7.2, has it, for what can be a name of this machine."""


def check_site(headers: Headers) -> None:
    """Refuse what was not sent by a program of this machine that calls it by a name of its own.

    Raises
    ------
    ProblemError
        403.
    """
    hosts = headers.getlist("host")
    origin = headers.get("origin")
    foreign = headers.get("sec-fetch-site") in {"cross-site", "same-site"}
    if foreign or len(hosts) != 1 or not names_this_machine(hosts[0]) or not _is_of(origin, hosts[0]):
        raise ProblemError(
            "forbidden",
            "Without tokens the API serves programs of this machine only, which call it localhost: no page of a "
            "browser that comes from elsewhere.",
        )


def names_this_machine(host: str) -> bool:
    """Whether a Host header is ``localhost`` or a loopback address, with any port.

    >>> [names_this_machine(host) for host in ("localhost:3000", "[::1]", "localhost.example", "10.0.0.1")]
    [True, True, False, False]
    """
    parts = _HOST.fullmatch(host)
    if parts is None:
        return False
    if (parts["name"] or "").lower().removesuffix(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts["v6"] or parts["name"]).is_loopback
    except ValueError:
        return False


def _is_of(origin: str | None, host: str) -> bool:
    return origin is None or _parts(origin) == _parts(f"//{host}")


def _parts(url: str) -> tuple[str | None, int | None]:
    try:
        split = urlsplit(url)
        return split.hostname, split.port
    except ValueError:
        return None, None
