"""What is said to a process that forks workers, and what it says: one msgpack message a packet, on SOCK_SEQPACKET.

A pool and its fork server speak it, and the operator and its plugin host.
"""

from __future__ import annotations

import msgspec

MAX_PACKET_BYTES = 64 * 1024


class Configure(msgspec.Struct, tag_field="kind", tag=True, frozen=True):
    """The first message to the fork server.

    Parameters
    ----------
    handler, preload
        See `engine_ops.workers.wire.Wire`.
    search_path
        The pool's ``sys.path``.
    niceness
        Of workers; the fork server keeps the pool's.
    """

    handler: str
    preload: tuple[str, ...]
    search_path: tuple[str, ...]
    niceness: int


class Spawn(msgspec.Struct, tag_field="kind", tag=True, omit_defaults=True, frozen=True):
    """Fork a worker. What it listens and speaks on comes with the packet: a socket, or the ends of two pipes.

    Parameters
    ----------
    worker_id
        Unique on this control socket, never used again.
    label
        What it is for; in logs.
    memory_limit_bytes
        It is killed above this, where the one who forks watches memory (`engine_ops.plugins.host.watchdog`); 0 for
        no limit.
    search_path
        Its ``sys.path``; empty for the forking process's own.
    """

    worker_id: int
    label: str = ""
    memory_limit_bytes: int = 0
    search_path: tuple[str, ...] = ()


class Kill(msgspec.Struct, tag_field="kind", tag=True, frozen=True):
    """Kill a worker. Its parent does it, which knows that the pid is still this worker's."""

    worker_id: int


class Ready(msgspec.Struct, tag_field="kind", tag=True, frozen=True):
    """Everything is loaded."""


class Broken(msgspec.Struct, tag_field="kind", tag=True, frozen=True):
    """Loading failed; the fork server ends."""

    message: str


class Spawned(msgspec.Struct, tag_field="kind", tag=True, frozen=True):
    """A worker was forked."""

    worker_id: int
    pid: int


class Exited(msgspec.Struct, tag_field="kind", tag=True, frozen=True):
    """A worker ended and was reaped, or could not be forked (``error``).

    Parameters
    ----------
    exit_code
        Not negative; None if a signal killed it.
    signal
        The signal's number; None if it exited by itself.
    oom_bytes
        The memory that it used when it was killed for being above its limit; None if that was not why.
    """

    worker_id: int
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    oom_bytes: int | None = None


COMMANDS: msgspec.msgpack.Decoder[Configure | Spawn | Kill] = msgspec.msgpack.Decoder(Configure | Spawn | Kill)
"""Decodes what the fork server receives."""

NOTICES: msgspec.msgpack.Decoder[Ready | Broken | Spawned | Exited] = msgspec.msgpack.Decoder(
    Ready | Broken | Spawned | Exited
)
"""Decodes what the pool receives."""

encode = msgspec.msgpack.Encoder().encode
"""Encodes either."""
