"""On a machine without tokens: who found the server by a name of the machine itself, and nobody else."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from engine_ops.server.problems import ProblemError

_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9.-]+))(?::[0-9]{0,5})?")
"""As RFC 9110, section 7.2, has it, for what can be a name of this machine."""


class LocalHostOnly:
    """ASGI middleware: refuses requests whose Host is no name of this machine.

    A page of another site can have its own name lead to this machine (DNS rebinding), and would then pass for a page of
    this server. Its name is in the header Host, which a page cannot change.

    Parameters
    ----------
    app
        What it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 403."""
        if scope["type"] == "http":
            hosts = Headers(scope=scope).getlist("host")
            if len(hosts) != 1 or not names_this_machine(hosts[0]):
                problem = ProblemError(
                    "forbidden", "Without tokens the API is served on this machine only: call it localhost."
                )
                await problem.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


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
