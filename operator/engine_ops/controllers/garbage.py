"""Python's cycle collector, in a process that makes much that lives as long as itself."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (50_000, 20, 50)


def collect_rarely() -> None:
    """Keep the collector from running in every parse, and all the time while modules are imported.

    Decoding one large object allocates tens of thousands of containers, and importing what this process needs a
    million, nearly none of them in a cycle; with the default thresholds the collector runs hundreds of times in it
    (a tenth of the time of a start).
    """
    gc.set_threshold(*THRESHOLDS)


def spare_what_lives_on() -> None:
    """Keep the collector from walking what is there now, for as long as the process lives."""
    gc.collect()
    gc.freeze()
