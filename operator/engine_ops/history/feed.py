"""The history for processes of plugins: all of it once, then what is new."""

from __future__ import annotations

import msgspec


class HistoryUpdate(msgspec.Struct, tag_field="kind", tag=True, omit_defaults=True, frozen=True):
    """What has changed of the history since the last update to the same receiver.

    Parameters
    ----------
    reset
        Forget what came before.
    capacity
        The newest so many points are the history.
    blocks
        Encoded blocks, oldest first; they come before ``points``.
    points
        Single points, oldest first, each as msgpack of what `engine_ops.history.limits.pack` gives and its columns.
    """

    reset: bool
    capacity: int
    blocks: tuple[bytes, ...] = ()
    points: tuple[bytes, ...] = ()
