"""Free ports on the loopback interface."""

from __future__ import annotations

import socket
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Choose TCP ports that nobody listens on.

    All of them are held open until the last is chosen, so that they differ from each other. Nothing reserves them
    after the return: whoever binds one must be ready to lose it and try again.

    Parameters
    ----------
    count : int
        How many.

    Returns
    -------
    list of int
        Different ports, free on 127.0.0.1 at the moment of the call.
    """
    with ExitStack() as held:
        ports = []
        for _ in range(count):
            listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            listener.bind((LOOPBACK, 0))
            ports.append(int(listener.getsockname()[1]))
        return ports
