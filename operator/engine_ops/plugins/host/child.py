"""The process of one plugin: takes a message, has the session do it, answers, takes the next."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Collection
from pathlib import Path

import msgspec

from engine_ops.plugins.messages import MAX_MESSAGE_BYTES, Close, Message, Train
from engine_ops.plugins.session import PluginSession
from engine_ops.workers.frames import FrameSocket

_MESSAGES: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_FIRST_BEYOND_STANDARD = 3
_MANY_POINTS = 1000


class Pipes:
    """The plugin's ends of the two pipes between it and the operator, as one stream.

    Not a socket: descriptors can be sent over one, and are closed by whoever reads, which may take as long as the
    sender likes (a TCP socket that lingers). The operator's event loop would stand still.

    Parameters
    ----------
    reading, writing
        Descriptors, blocking.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing

    def recv_into(self, buffer: memoryview, /) -> int:
        """See `engine_ops.workers.frames.Stream`."""
        return os.readv(self._reading, [buffer])

    def sendall(self, data: bytearray, /) -> None:
        """See `engine_ops.workers.frames.Stream`."""
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                sent += os.write(self._writing, view[sent:])


def work(pipes: Pipes) -> None:
    """Do what messages ask for until `Close`, or until the operator closes its end.

    Parameters
    ----------
    pipes
        To and from the operator.

    Raises
    ------
    Exception
        Whatever leaves the session.
    """
    frames: FrameSocket[Message] = FrameSocket(pipes, _MESSAGES, limit_bytes=MAX_MESSAGE_BYTES)
    session = PluginSession()
    spared = 0
    while (message := frames.receive()) is not None:
        answer = session.handle(message)
        if isinstance(message, Close):
            return
        if answer is not None:
            frames.send(answer)
        # What was made of the history stays: the collector of cycles would walk it in some later request, for 50 ms.
        if isinstance(message, Train) or session.points >= max(_MANY_POINTS, 2 * spared):
            gc.collect()
            gc.freeze()
            spared = session.points


def become_a_plugins_own(descriptors: Collection[int], search_path: tuple[str, ...]) -> None:
    """Part a newly forked process from what it shares with the host and with other plugins.

    Parameters
    ----------
    descriptors
        Those that are kept beside the standard ones: a plugin must not be able to speak on the operator's control
        socket, nor to another plugin's process.
    search_path
        Its ``sys.path``; empty to keep the host's.
    """
    close_inherited(keep=descriptors)
    # What is in the host's working directory is no plugin's business, and must not be imported by accident.
    os.chdir("/")
    if search_path:
        sys.path[:] = search_path
    # Otherwise every plugin would draw the same numbers; `random` sees to itself.
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()


def close_inherited(*, keep: Collection[int]) -> None:
    """Close all descriptors but the standard ones and those in ``keep``."""
    try:
        # A limit of a billion descriptors is common; what is open is a handful.
        descriptors = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except OSError:
        descriptors = list(range(_FIRST_BEYOND_STANDARD, os.sysconf("SC_OPEN_MAX")))
    for descriptor in descriptors:
        if descriptor >= _FIRST_BEYOND_STANDARD and descriptor not in keep:
            os.closerange(descriptor, descriptor + 1)  # unlike os.close, it does not mind one that is closed already
