"""The fork server: loads what workers need once, then forks a worker in milliseconds whenever the pool asks.

Run by `engine_ops.workers.launcher`. It ends when its control socket does, or when the pool's process dies, killing
its workers.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from engine_ops.workers import control
from engine_ops.workers.child import work
from engine_ops.workers.forker import Forker
from engine_ops.workers.garbage import collect_rarely, spare_what_lives_on
from engine_ops.workers.process import die_with_parent
from engine_ops.workers.wire import Handler, resolve


class ForkServer(Forker):
    """Forks workers that handle tasks.

    Parameters
    ----------
    sock, niceness
        See `Forker`.
    handler
        What workers do with a task.
    """

    def __init__(self, sock: socket.socket, *, niceness: int, handler: Handler[Any]) -> None:
        super().__init__(sock, niceness=niceness)
        self._handler = handler

    def _work(self, descriptors: Sequence[int], command: control.Spawn) -> None:
        del command
        with socket.socket(fileno=descriptors[0]) as sock:
            work(sock, self._handler)


def serve(sock: socket.socket) -> int:
    """Load what the pool's first message names, and serve until the pool closes the control socket.

    Parameters
    ----------
    sock
        The control socket, blocking.

    Returns
    -------
    int
        The exit code.
    """
    packet = sock.recv(control.MAX_PACKET_BYTES)
    if not packet:
        return 0
    configuration = control.COMMANDS.decode(packet)
    if not isinstance(configuration, control.Configure):
        raise TypeError(f"the first message must be Configure, not {type(configuration).__name__}")
    try:
        handler = _load(configuration)
    except BaseException as error:  # noqa: BLE001 -- whatever a module does when it is imported
        traceback.print_exc()
        # Where the pool is gone, nobody asks.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.send(control.encode(control.Broken(f"{type(error).__name__}: {error}"[:4096])))
        return 1
    # What is loaded now lives for ever: out of the collector's sight, its pages stay shared with the workers.
    spare_what_lives_on()
    # Solvers make many objects that stay until the answer is there, and few cycles.
    collect_rarely()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.send(control.encode(control.Ready()))
    ForkServer(sock, niceness=configuration.niceness, handler=handler).serve()
    return 0


def _load(configuration: control.Configure) -> Handler[Any]:
    sys.path[:] = configuration.search_path
    for entry in configuration.preload:
        loaded = resolve(entry)
        if ":" in entry:
            loaded()
    handler = resolve(configuration.handler)
    if not isinstance(handler, Handler):
        raise TypeError(f"{configuration.handler} is no Handler")
    return handler


def main() -> int:
    """Serve on the control socket whose descriptor and owner's pid are the two arguments."""
    descriptor, parent_pid = (int(argument) for argument in sys.argv[1:])
    # Ctrl-C at a terminal reaches the whole group, and some supervisors' SIGTERM does; the pool decides what it means.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent(parent_pid)
    with socket.socket(fileno=descriptor) as sock:
        return serve(sock)


if __name__ == "__main__":
    sys.exit(main())
