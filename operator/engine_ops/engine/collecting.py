"""Garbage collection, out of the way while many objects are made that stay."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the collector of cycles.

    Tens of thousands of new objects without cycles make it run again and again, over all of them: for 10,000 tasks
    that took most of the time that their checks took. References are counted as ever.
    """
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()
