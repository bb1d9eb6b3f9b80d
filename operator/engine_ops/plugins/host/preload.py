"""What the plugin host loads before it forks, so that no plugin has to."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import logging
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

OWN: Final = ("engine_ops.plugins.session", "engine_ops.plugins.host.child", "engine_ops.ml")
"""Without these there are no plugins."""

OPTIONAL: Final = (
    "numpy",
    "numpy.random",
    "pydantic",
    "engine_ops.ml.data_point",
    "engine_ops.ml.dataset",
    "engine_ops.ml.models",
    "engine_ops.ml.examples",
    "engine_ops.history.view",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "sklearn.preprocessing",
)
"""What most plugins use, as far as it is installed."""


def preload() -> None:
    """Load it all, and take it out of the garbage collector's sight: its pages stay shared with all plugins.

    Raises
    ------
    ImportError
        If something of our own is missing.
    """
    for name in OWN:
        importlib.import_module(name)
    for name in OPTIONAL:
        _try_to_load(name)
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        logger.warning(
            "%d threads run in the plugin host; a lock that one holds when a plugin is forked stays", threads
        )
    gc.collect()
    gc.freeze()


def _try_to_load(name: str) -> None:
    try:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            importlib.import_module(name)
    except Exception:  # whatever a library does when it is imported; its plugins will say so
        logger.exception("%s is not loaded in advance", name)
