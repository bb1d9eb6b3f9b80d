"""What the plugin host loads before it forks, so that no plugin has to."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

OWN: Final = ("engine_ops.plugins.session", "engine_ops.plugins.host.child")
"""Without these there are no plugins."""

USUAL: Final = (
    "numpy",
    "numpy.random",
    "pydantic",
    "pydantic.json_schema",
    "engine_ops.ml",
    "engine_ops.ml.examples",
    "engine_ops.plugins",
    "engine_ops.history.view",
)
"""What nearly every plugin uses."""

LIBRARIES: Final = (
    "engine_ops.ml.models",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "sklearn.preprocessing",
)
"""What many plugins use, where it is installed; seconds to load."""

_FORK_SAFE: Final = {"jemalloc_bg_thd"}
"""Comes with pyarrow, which comes with pandas, which scikit-learn loads; jemalloc sees to itself at a fork."""


def preload(libraries: Sequence[str] = LIBRARIES) -> None:
    """Load it all, and take it out of the garbage collector's sight: its pages stay shared with all plugins.

    Parameters
    ----------
    libraries
        Modules that start no threads. One that is not installed, or cannot be loaded, is left out.

    Raises
    ------
    ImportError
        If something of our own is missing.
    """
    for name in OWN:
        importlib.import_module(name)
    for name in (*USUAL, *libraries):
        _try_to_load(name)
    others = _other_threads()
    if others:
        logger.warning("threads run in the plugin host, and plugins may hang: %s", ", ".join(others))
    gc.collect()
    gc.freeze()


def _other_threads() -> list[str]:
    """Return the names of threads that a fork may harm: the locks that one of them holds stay locked for ever."""
    tasks = Path("/proc/self/task")
    names = [(task / "comm").read_text().strip() for task in tasks.iterdir() if task.name != str(os.getpid())]
    return sorted(name for name in names if name not in _FORK_SAFE)


def _try_to_load(name: str) -> None:
    try:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            return
        module = importlib.import_module(name)
        if name.startswith("engine_ops."):
            for public in getattr(module, "__all__", ()):
                getattr(module, public)  # they are loaded on first use
    except Exception:  # whatever a library does when it is imported; its plugins will say so
        logger.exception("%s is not loaded in advance", name)
