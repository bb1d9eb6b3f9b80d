"""The engine's configuration."""

from __future__ import annotations

import dataclasses
import os


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How an `engine_ops.OptimizationEngine` works.

    Parameters
    ----------
    search_seconds
        The budget for improving an answer, where the request names none; 0 stops at the first answer.
    max_steps
        Stop a search after so many steps, for answers that depend on the seed alone; None for no such limit.
    seed
        Of every random choice.
    enable_plugins
        Ask the plugins of `engine_ops.plugin_registry` before the built-in algorithms.
    plugin_timeout_seconds
        For one answer of a plugin; the next one, or the built-in, answers after it.
    enable_workload_collection
        Record every answered request as a data point; see `engine_ops.OptimizationEngine.collector`.
    history_points
        The newest so many data points are kept.
    history_directory
        Where they outlive the process; None keeps them in memory.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    search_seconds: float = 1.0
    max_steps: int | None = None
    seed: int = 0
    enable_plugins: bool = False
    plugin_timeout_seconds: float = 10.0
    enable_workload_collection: bool = False
    history_points: int = 10_000
    history_directory: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.search_seconds <= 3600:
            raise ValueError(f"search_seconds must be from 0 to 3600, not {self.search_seconds}")
        if self.max_steps is not None and self.max_steps < 0:
            raise ValueError(f"max_steps must not be negative, is {self.max_steps}")
        if not 0 < self.plugin_timeout_seconds <= 3600:
            given = self.plugin_timeout_seconds
            raise ValueError(f"plugin_timeout_seconds must be above 0 and at most 3600, not {given}")
        if self.history_points < 1:
            raise ValueError(f"history_points must be at least 1, is {self.history_points}")
