"""A port for a server that is told where to listen, and that may be started late or again."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """Hold a TCP port of 127.0.0.1 for the block.

    It is bound and not listened on: connections are refused, and the system gives it to nobody else, neither to who
    asks for any port nor for the near end of a connection. A server may listen there that sets ``SO_REUSEADDR``, as
    servers do.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
