"""The worker: takes a task, handles it, replies, takes the next."""

from __future__ import annotations

import socket
from typing import Any

import msgspec

from engine_ops.workers.frames import FrameSocket
from engine_ops.workers.wire import Handler


def work(sock: socket.socket, handler: Handler[Any]) -> None:
    """Handle tasks until the pool closes the socket.

    Parameters
    ----------
    sock
        Connected to the pool.
    handler
        What to do with a task.

    Raises
    ------
    Exception
        Whatever leaves the handler.
    """
    frames: FrameSocket[Any] = FrameSocket(sock, msgspec.msgpack.Decoder(handler.task))
    while (task := frames.receive()) is not None:
        frames.send(handler.handle(task, frames.send))
