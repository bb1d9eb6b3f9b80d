"""The asyncio end of a control socket."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

import msgspec

from engine_ops.workers import control

logger = logging.getLogger(__name__)

_PACKETS_AT_ONCE = 64
"""Read before the event loop has another turn."""

Notice = control.Ready | control.Broken | control.Spawned | control.Exited


class ControlLink:
    """Speaks with a process that forks workers.

    Parameters
    ----------
    sock
        Connected; closed by the link.
    on_notice
        Called with each of its messages.
    on_lost
        Called once if the other end ends without having been asked to.
    on_stuck
        Called if it does not read what it is told.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_notice: Callable[[Notice], None],
        on_lost: Callable[[], None],
        on_stuck: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock: socket.socket | None = sock
        self._on_notice = on_notice
        self._on_lost = on_lost
        self._on_stuck = on_stuck
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._read)

    def spawn(self, command: control.Spawn, descriptors: Sequence[int]) -> None:
        """Ask for a worker that serves descriptors, which the caller closes afterwards.

        Raises
        ------
        OSError
            If they cannot be sent: too many of this user's are on their way.
        """
        self.tell(command, descriptors)

    def kill(self, worker_id: int) -> None:
        """Kill a worker and all that it started."""
        self.tell(control.Kill(worker_id))

    def tell(self, command: msgspec.Struct, descriptors: Sequence[int] = ()) -> None:
        """Send a command; nothing where the other end is gone, of which the owner hears."""
        if self._sock is None:
            return
        try:
            socket.send_fds(self._sock, [control.encode(command)], list(descriptors))
        except BlockingIOError:  # hundreds of unread commands
            self._on_stuck()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the reader notices

    def close(self) -> None:
        """Close the socket, at which the other end kills its workers. Calling it again is harmless."""
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None

    def _read(self) -> None:
        for _ in range(_PACKETS_AT_ONCE):
            if self._sock is None:
                return
            try:
                packet = self._sock.recv(control.MAX_PACKET_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:
                packet = b""
            try:
                notice = control.NOTICES.decode(packet)
            except msgspec.DecodeError as error:  # the end of the stream, too
                if packet:
                    logger.error("what forks workers sent what is no notice: %s", error)
                self.close()
                self._on_lost()
                return
            self._on_notice(notice)
