"""Python's cycle collector, in a process that makes much that lives on and next to no cycles."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

THRESHOLDS: Final = (50_000, 20, 50)


@contextlib.contextmanager
def collector_waits() -> Iterator[None]:
    """Keep the collector from running where many objects come and none goes: imports, decoding thousands of points.

    It would look through all of them again and again: a twelfth of the CPU of a start, half of that of a decoding.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def collect_rarely() -> None:
    """Keep the collector from running in every parse.

    Decoding one large object allocates tens of thousands of containers, none of them in a cycle; with the default
    thresholds the collector runs hundreds of times in it.
    """
    gc.set_threshold(*THRESHOLDS)


def spare_what_lives_on() -> None:
    """Keep the collector from walking what is there now, for as long as the process lives."""
    gc.collect()
    gc.freeze()
