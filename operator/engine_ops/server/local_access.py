"""Who calls the REST API of `engine-ops serve`: whoever uses this machine."""

from __future__ import annotations

from typing import Final

from engine_ops.server.callers import Caller, Right

LOCAL_USER: Final = "local"


class LocalAccess:
    """Everybody who reaches the port is the user of this machine; see `engine_ops.server.callers.Access`."""

    @property
    def open(self) -> bool:
        """There are no tokens."""
        return True

    async def authenticate(self, token: str | None) -> Caller:
        """Return the one user that there is."""
        del token
        return Caller(LOCAL_USER)

    async def allowed(self, caller: Caller, right: Right) -> bool:
        """They may do everything."""
        del caller, right
        return True
